"""Every payload runner keeps the runner's contract; commands keep some promises more."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from evstream.adapters.offload import Threads
from evstream.adapters.payload import logs, starting
from evstream.adapters.payload.callable import CallableRunner
from evstream.adapters.payload.command import CommandRunner
from evstream.domain.errors import ConfigError, EvstreamError, PayloadError, TransientError
from evstream.domain.payload import Payload
from evstream.ports.payload import PayloadRunner
from evstream.testing.contracts import PayloadRunnerContract

WAIT_S_MAX = 30.0


def python(code: str) -> str:
    """Return a payload that runs Python; `{output}` stands in it, unused if need be."""
    return f"{shlex.quote(sys.executable)} -IS -c {shlex.quote(code)} {{input}} {{output}}"


TALKER = """
import os, sys, time
number, seen = 0, 0
while (size := os.fstat(1).st_size) >= seen:
    seen = size
    print(f"line {number}", flush=True)
    number += 1
    time.sleep(0.001)
"""
"""Python that says one line after another, until its log is cut."""


def spend(seconds: float) -> None:
    while time.thread_time() < seconds:
        pass


SPEND = "import time\nwhile time.process_time() < 0.2: pass"


class TestCommandRunner(PayloadRunnerContract):
    copies = Payload("cp {input} {output}")
    fails = Payload("sh -c 'echo begun; echo no such luck >&2; exit 3' {output}")
    spends = Payload(python(SPEND))
    hangs = Payload("sh -c 'sleep 1000' {output}")

    @pytest.fixture
    def runner(self) -> PayloadRunner:
        return CommandRunner(grace_s=WAIT_S_MAX, watch_every_s=0.01)


class TestCommandRunnerWithoutDescriptors(TestCommandRunner):
    """On kernels that have no descriptors of processes, threads wait for them."""

    @pytest.fixture
    def runner(self, monkeypatch: pytest.MonkeyPatch) -> PayloadRunner:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
        return CommandRunner(grace_s=WAIT_S_MAX, watch_every_s=0.01)


class TestCommandRunnerWithoutSetpriv(TestCommandRunner):
    @pytest.fixture
    def runner(self, monkeypatch: pytest.MonkeyPatch) -> PayloadRunner:
        monkeypatch.setattr(starting, "dies_with_us", lambda: ())
        return CommandRunner(grace_s=WAIT_S_MAX, watch_every_s=0.01)


class TestCallableRunner(PayloadRunnerContract):
    copies, fails, spends = Payload("copies"), Payload("fails"), Payload("spends")

    @pytest.fixture
    def runner(self, request: pytest.FixtureRequest) -> Iterator[PayloadRunner]:
        threads = Threads(4)

        def work(values: dict[str, str]) -> None:
            name = request.function.__name__
            failing = name == "test_a_failure_says_why"
            if failing or (
                name.startswith("test_a_failure_costs") and "good" not in values["input"]
            ):
                raise ValueError("no such luck")
            if name == "test_cpu_seconds_are_told":
                spend(0.2 + time.thread_time())
            Path(values["output"]).write_bytes(Path(values["input"]).read_bytes())

        yield CallableRunner(work, threads)
        threads.close()


pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def run(folder: Path, payload: str, wall_s_max: float = 60.0, grace_s: float = 30.0) -> None:
    call = PayloadRunnerContract.call(folder, Payload(payload, wall_s_max))
    await CommandRunner(grace_s, watch_every_s=0.01).run(call, lambda cpu_s: None)


async def failure_of(folder: Path, payload: str, wall_s_max: float = 60.0, **more: float) -> str:
    with pytest.raises(PayloadError) as caught:
        await run(folder, payload, wall_s_max, **more)
    return str(caught.value)


async def appears(path: Path) -> str:
    """Wait until a file has a line, and return it."""
    deadline = time.monotonic() + WAIT_S_MAX
    while not (text := _text(path)).endswith("\n"):
        assert time.monotonic() < deadline, f"{path} did not appear"
        await asyncio.sleep(0.005)
    return text.strip()


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


async def vanishes(pid: int) -> None:
    """Wait until a process is gone, or nothing but a name for its parent to collect."""
    deadline = time.monotonic() + WAIT_S_MAX
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, f"process {pid} lives on"
        await asyncio.sleep(0.005)


async def test_values_are_in_the_environment_and_our_own_settings_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVSTREAM_TOKEN", "secret")
    monkeypatch.setenv("THEIR_SETTING", "kept")
    await run(tmp_path, "sh -c 'env; pwd' {output}")
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert f"EVSTREAM_OUTPUT={tmp_path}/out put.root" in lines
    assert "EVSTREAM_RANGE_ID=2-0-10-20" in lines
    assert "EVSTREAM_ENTRY_START=10" in lines
    assert "THEIR_SETTING=kept" in lines
    assert lines[-1] == str(tmp_path)
    assert not any("secret" in line for line in lines)


async def test_credentials_of_the_pilot_are_not_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*starting.CREDENTIALS, "APPTAINERENV_BEARER_TOKEN", "APPTAINERENV_EVSTREAM_TOKEN"):
        monkeypatch.setenv(name, "secret")
    payload = Payload("sh -c env {output}", environment={"BEARER_TOKEN_FILE": "/its/own"})
    call = PayloadRunnerContract.call(tmp_path, payload)
    await CommandRunner(watch_every_s=0.01).run(call, lambda cpu_s: None)
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert not any("secret" in line for line in lines)
    assert "BEARER_TOKEN_FILE=/its/own" in lines


async def test_libraries_of_a_bundle_are_not_those_of_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(starting.BUNDLE_VARIABLE, "/bundle/lib")
    for whole, left in (("/bundle/lib:/their/own", "PYTHONPATH=/their/own"), ("/bundle/lib", None)):
        monkeypatch.setenv("PYTHONPATH", whole)
        await run(tmp_path, "sh -c env {output}")
        lines = (tmp_path / "log.txt").read_text().splitlines()
        assert [line for line in lines if line.startswith("PYTHONPATH=")] == [left] * bool(left)


async def test_nothing_is_on_its_standard_input(tmp_path: Path) -> None:
    await run(tmp_path, "sh -c 'cat > \"$1\"' sh {output}")
    assert (tmp_path / "out put.root").read_bytes() == b""


async def test_no_shell_looks_at_the_command(tmp_path: Path) -> None:
    await run(tmp_path, "echo $HOME `id` ; > {output}")
    log = (tmp_path / "log.txt").read_text()
    assert log == f"$HOME `id` ; > {tmp_path}/out put.root\n"


@pytest.mark.parametrize("program", ["no-such-program-here", "/no/such/program"])
async def test_a_program_that_is_not_there_may_be_on_another_node(
    tmp_path: Path, program: str
) -> None:
    with pytest.raises(ConfigError, match="not there on this node") as caught:
        await run(tmp_path, f"{program} {{output}}")
    assert program in str(caught.value)
    assert "PATH" in str(caught.value)


async def test_a_program_that_is_on_no_node(tmp_path: Path) -> None:
    told = await failure_of(tmp_path, "./none {output}")
    assert "./none is not there" in told
    sandbox = tmp_path / "sandbox"
    sandbox.mkdir()
    call = PayloadRunnerContract.call(tmp_path, Payload("{sandbox}/none {output}"))
    call.values["sandbox"] = str(sandbox)
    with pytest.raises(PayloadError, match="not there"):
        await CommandRunner().run(call, lambda cpu_s: None)


async def test_a_node_without_containers_is_at_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    call = PayloadRunnerContract.call(tmp_path, Payload("true {output}", container="a.sif"))
    with pytest.raises(ConfigError, match="no Apptainer"):
        await CommandRunner().run(call, lambda cpu_s: None)


async def test_a_program_that_is_not_executable(tmp_path: Path) -> None:
    script = tmp_path / "analysis.py"
    script.write_text("#!/bin/sh\ntrue\n")
    told = await failure_of(tmp_path, "./analysis.py {output}")
    assert "not executable" in told
    assert "chmod +x ./analysis.py" in told
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    await run(tmp_path, "./analysis.py {output}")


async def test_a_program_without_its_first_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "analysis"
    script.write_text("true\n")
    script.chmod(0o755)
    monkeypatch.setattr(starting, "dies_with_us", lambda: ())
    assert "#!/bin/sh" in await failure_of(tmp_path, "./analysis {output}")


async def test_a_node_that_is_full_is_not_the_payloads_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more(*args: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(starting, "Child", no_more)
    with pytest.raises(TransientError):
        await run(tmp_path, "true {output}")


async def test_the_last_line_of_its_log_is_told(tmp_path: Path) -> None:
    told = await failure_of(
        tmp_path, "sh -c 'printf \"one\\n\\033[31mtwo\\377\\n\\n\"; exit 7' {output}"
    )
    assert "status 7" in told
    assert "[31mtwo\ufffd" in told
    assert "\033" not in told


async def test_a_log_that_grows_without_end_keeps_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "CUT_BYTES", 400)
    monkeypatch.setattr(logs, "LOG_BYTES_MAX", 100)
    # What is kept comes behind what was written between the cut and it.
    whole_again = "while os.fstat(1).st_size < 100: time.sleep(0.001)\n"
    talk = python(TALKER + whole_again + 'sys.exit("was cut")')
    call = PayloadRunnerContract.call(tmp_path, Payload(talk), wall_s_max=WAIT_S_MAX)
    with pytest.raises(PayloadError, match="was cut"):
        await CommandRunner(watch_every_s=0.01).run(call, lambda cpu_s: None)
    *lines, last = call.log.read_text().splitlines()[1:]
    assert last == "was cut"
    numbers = [int(line.removeprefix("line ")) for line in lines]
    assert numbers[0] > 0
    assert numbers == sorted(numbers)
    assert len(call.log.read_bytes()) < 1000


async def test_a_signal_is_named(tmp_path: Path) -> None:
    assert "SIGSEGV" in await failure_of(tmp_path, "sh -c 'kill -SEGV $$' {output}")
    assert "memory" in await failure_of(tmp_path, "sh -c 'kill -KILL $$' {output}")


async def test_one_that_ignores_being_asked_is_made_to_end(tmp_path: Path) -> None:
    deaf = "sh -c 'trap \"\" TERM; echo deaf; while :; do sleep 0.01; done' {output}"
    assert "hung" in await failure_of(tmp_path, deaf, wall_s_max=0.3, grace_s=0.1)


async def test_what_it_leaves_running_is_ended(tmp_path: Path) -> None:
    await run(tmp_path, "sh -c 'sleep 1000 & echo $! > child' {output}")
    await vanishes(int((tmp_path / "child").read_text()))


async def test_children_count(tmp_path: Path) -> None:
    payload = f"sh -c '{shlex.quote(sys.executable)} -IS -c \"{SPEND}\"; true' {{output}}"
    call = PayloadRunnerContract.call(tmp_path, Payload(payload))
    told: list[float] = []
    result = await CommandRunner(watch_every_s=0.01).run(call, told.append)
    assert result.cpu_s >= 0.19
    assert told


async def test_a_cancelled_payload_dies_at_once_with_its_children(tmp_path: Path) -> None:
    payload = "sh -c 'trap \"\" TERM; sleep 1000 & echo $$ $! > pids; wait' {output}"
    task = asyncio.ensure_future(run(tmp_path, payload))
    pids = [int(word) for word in (await appears(tmp_path / "pids")).split()]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for pid in pids:
        await vanishes(pid)


@pytest.mark.server
@pytest.mark.skipif(not starting.dies_with_us(), reason="needs util-linux's setpriv")
async def test_a_payload_dies_with_a_killed_pilot(tmp_path: Path) -> None:
    pilot = f"""
import asyncio
from pathlib import Path
from evstream.adapters.payload.command import CommandRunner
from evstream.domain.payload import Payload
from evstream.testing.contracts import PayloadRunnerContract
payload = "sh -c 'echo $$ > pid; exec sleep 1000' {{output}}"
call = PayloadRunnerContract.call(Path({str(tmp_path)!r}), Payload(payload))
asyncio.run(CommandRunner().run(call, lambda cpu_s: None))
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", pilot)
    payload_pid = int(await appears(tmp_path / "pid"))
    process.send_signal(signal.SIGKILL)
    await process.wait()
    await vanishes(payload_pid)


GREEDY = "b = bytearray(200 << 20); import time; time.sleep(1000)"
WRITER = """
import sys, time
with open(sys.argv[2], "wb") as file:
    while True:
        file.write(bytes(1 << 20)); file.flush(); time.sleep(0.001)
"""


@pytest.mark.parametrize(
    ("code", "limits", "told"),
    [
        (GREEDY, {"memory_bytes_max": 100 << 20}, "bytes of memory"),
        (WRITER, {"disk_bytes_max": 10 << 20}, "bytes of disk"),
    ],
)
async def test_one_that_uses_too_much_is_ended(
    tmp_path: Path, code: str, limits: dict[str, float], told: str
) -> None:
    call = PayloadRunnerContract.call(tmp_path, Payload(python(code)), **limits)
    with pytest.raises(PayloadError, match=told):
        await CommandRunner(watch_every_s=0.01).run(call, lambda cpu_s: None)


async def test_its_environment_is_what_the_task_says(tmp_path: Path) -> None:
    payload = Payload("sh -c 'echo $GREETING' {output}", environment={"GREETING": "good day"})
    call = PayloadRunnerContract.call(tmp_path, payload)
    await CommandRunner().run(call, lambda cpu_s: None)
    assert (tmp_path / "log.txt").read_text() == "good day\n"


@pytest.mark.parametrize("number", range(1, 134))
def test_every_error_of_the_system_is_translated(number: int) -> None:
    error = OSError(number, os.strerror(number))
    assert isinstance(starting.not_started("program", error), EvstreamError)
