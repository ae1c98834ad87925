"""Long-lived payloads: initialised once, given units over a channel, killed at will."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from evstream.adapters.payload import hosted, logs
from evstream.adapters.payload.long_lived import LongLivedRunner
from evstream.domain.errors import PayloadError, TransientError
from evstream.domain.payload import Payload
from evstream.ports.payload import PayloadCall, PayloadResult, PayloadRunner, SecondaryFiles
from evstream.testing.contracts import PayloadRunnerContract
from tests.contract.test_payload_runners import TALKER

WAIT_S_MAX = 30.0

BEGINNING = """
import os, shutil, signal, sys, threading, time
from pathlib import Path
from evstream.payload import serve, units
from evstream.payload.channel import Channel
from evstream.payload.units import Unit

def initialise():
    with Path(os.environ.get("STARTS", os.devnull)).open("a") as file:
        file.write(f"{os.getpid()}\\n")

def copy(unit):
    shutil.copyfile(unit.input, unit.output)

def fail(unit):
    print("begun", flush=True)
    raise ValueError("no such luck")

def spend(unit):
    until = time.process_time() + 0.2
    while time.process_time() < until:
        pass

def hang(unit):
    written = Path(unit.directory, "pid.partial")
    written.write_text(str(os.getpid()))
    written.rename(unit.directory / "pid")
    time.sleep(1000)

def by_name(unit):
    name = unit.directory.name.rstrip("0123456789")
    {"copy": copy, "fail": fail, "hang": hang, "kill": kill}[name](unit)

def kill(unit):
    print("about to die", flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)
"""


def python(code: str, **more: object) -> Payload:
    """Return a long-lived payload that runs Python after the common beginning."""
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(BEGINNING + code)}"
    return Payload(command, kind="long-lived", **more)  # type: ignore[arg-type]


def served(function: str, **more: object) -> Payload:
    return python(f"serve({function}, initialise)", **more)


def looped(function: str, **more: object) -> Payload:
    return python(f"initialise()\nfor unit in units():\n    with unit: {function}(unit)", **more)


pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def long_lived() -> AsyncIterator[PayloadRunner]:
    runner = LongLivedRunner(cores=2, grace_s=WAIT_S_MAX, watch_every_s=0.01)
    yield runner
    await runner.close()


@pytest.fixture
def runner(long_lived: PayloadRunner) -> PayloadRunner:
    return long_lived


class TestForkedWorkers(PayloadRunnerContract):
    copies, fails, spends = served("copy"), served("fail"), served("spend")
    hangs = served("hang")

    @pytest.fixture
    def runner(self, long_lived: PayloadRunner) -> PayloadRunner:
        return long_lived


class TestLoop(PayloadRunnerContract):
    copies, fails, spends = looped("copy"), looped("fail"), looped("spend")

    @pytest.fixture
    def runner(self, long_lived: PayloadRunner) -> PayloadRunner:
        return long_lived


def started(folder: Path) -> list[int]:
    """Return the numbers of the processes that were initialised, in order."""
    path = folder / "starts"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def units_of(folder: Path, names: list[str], payload: Payload) -> list[PayloadCall]:
    return [PayloadRunnerContract.call(folder / name, payload) for name in names]


async def run_all(
    runner: PayloadRunner, calls: list[PayloadCall]
) -> list[PayloadResult | BaseException]:
    return await asyncio.gather(
        *(runner.run(call, lambda cpu_s: None) for call in calls), return_exceptions=True
    )


def by_name(folder: Path, **more: object) -> Payload:
    return served("by_name", environment={"STARTS": str(folder / "starts")}, **more)


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S_MAX
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.005)


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


async def test_one_initialisation_serves_all(runner: PayloadRunner, tmp_path: Path) -> None:
    calls = units_of(tmp_path, [f"copy{n}" for n in range(40)], by_name(tmp_path))
    results = await run_all(runner, calls)
    assert all(isinstance(result, PayloadResult) for result in results), results
    assert len(started(tmp_path)) == 1


async def test_it_initialises_before_there_is_a_unit(runner: PayloadRunner, tmp_path: Path) -> None:
    payload = by_name(tmp_path)
    runner.prepare(payload, {}, tmp_path)
    runner.prepare(payload, {}, tmp_path)
    await until(lambda: len(started(tmp_path)) == 1)
    results = await run_all(runner, units_of(tmp_path, ["copy1", "copy2"], payload))
    assert all(isinstance(result, PayloadResult) for result in results), results
    assert len(started(tmp_path)) == 1


async def test_another_payload_is_not_begun_beside_one_that_is_there(
    runner: PayloadRunner, tmp_path: Path
) -> None:
    first, other = by_name(tmp_path), by_name(tmp_path, wall_s_max=100.0)
    runner.prepare(first, {}, tmp_path)
    runner.prepare(other, {}, tmp_path)
    await run_all(runner, units_of(tmp_path, ["copy1"], first))
    assert len(started(tmp_path)) == 1
    (done,) = await run_all(runner, units_of(tmp_path, ["copy2"], other))
    assert isinstance(done, PayloadResult)
    assert len(started(tmp_path)) == 2


async def test_a_start_in_vain_fails_no_unit(runner: PayloadRunner, tmp_path: Path) -> None:
    once = "mark = Path(os.environ['STARTS'])\nif not mark.exists(): mark.touch(); sys.exit(1)\n"
    payload = python(f"{once}serve(copy)", environment={"STARTS": str(tmp_path / "starts")})
    runner.prepare(payload, {}, tmp_path)
    await until((tmp_path / "starts").exists)
    await until(lambda: not any(name.startswith("payload-") for name in names_in(tmp_path)))
    (done,) = await run_all(runner, units_of(tmp_path, ["copy1"], payload))
    assert isinstance(done, PayloadResult), done


async def test_what_was_begun_for_nothing_ends(runner: PayloadRunner, tmp_path: Path) -> None:
    runner.prepare(by_name(tmp_path), {}, tmp_path)
    await until(lambda: len(started(tmp_path)) == 1)
    await runner.close()
    await until(lambda: is_gone(started(tmp_path)[0]))


async def test_a_worker_that_dies_fails_its_unit_alone(
    runner: PayloadRunner, tmp_path: Path
) -> None:
    names = ["copy1", "kill2", "copy3", "fail4", "copy5", "kill6", "copy7"]
    results = await run_all(runner, units_of(tmp_path, names, by_name(tmp_path)))
    for name, result in zip(names, results, strict=True):
        assert isinstance(result, PayloadResult) == name.startswith("copy"), (name, result)
    assert "SIGSEGV" in str(results[1])
    assert "about to die" in (tmp_path / "kill2" / "log.txt").read_text()
    assert "ValueError: no such luck" in (tmp_path / "fail4" / "log.txt").read_text()
    assert len(started(tmp_path)) == 1


@pytest.mark.parametrize("child", ["os.fork() == 0", "fork_in_c() == 0"])
async def test_a_worker_that_dies_is_noticed_while_a_child_of_its_lives(
    runner: PayloadRunner, tmp_path: Path, child: str
) -> None:
    code = f"""
import ctypes
fork_in_c = ctypes.CDLL(None).fork

def leave_a_child(unit):
    if unit.directory.name != "copy2" and {child}:
        time.sleep(1000)
    by_name(unit)

serve(leave_a_child, initialise)
"""
    payload = python(code, environment={"STARTS": str(tmp_path / "starts")})
    results = await run_all(runner, units_of(tmp_path, ["kill1", "copy2"], payload))
    assert "its worker was killed by SIGSEGV" in str(results[0])
    assert isinstance(results[1], PayloadResult), results
    assert len(started(tmp_path)) == 1


async def test_a_unit_that_hangs_costs_its_worker_and_no_other_unit(
    runner: PayloadRunner, tmp_path: Path
) -> None:
    names = ["hang1", "copy2", "copy3", "copy4"]
    calls = units_of(tmp_path, names, by_name(tmp_path, wall_s_max=1.0))
    results = await run_all(runner, calls)
    assert "hung" in str(results[0])
    assert all(isinstance(result, PayloadResult) for result in results[1:])
    assert len(started(tmp_path)) == 1
    await until(lambda: is_gone(int((tmp_path / "hang1" / "pid").read_text())))


CROWD = """
channel, sending = Channel.from_environment(), threading.Lock()
starts = Path(os.environ["STARTS"])
first = not starts.exists()
initialise()
together = threading.Barrier(4)

class Locked:
    def send(self, message):
        with sending:
            channel.send(message)

def work(unit):
    left = Path(unit.directory, "left.partial")
    left.touch(exist_ok=False)
    if first:
        together.wait()
    if unit.directory.name.startswith("kill"):
        os.abort()
    if first:
        time.sleep(1000)
    copy(unit)
    unit.done()

channel.send({"type": "ready", "units_max": 4})
for message in channel.messages():
    if message["type"] == "unit":
        unit = Unit(message, Locked())
        threading.Thread(target=work, args=(unit,), daemon=True).start()
"""


async def test_of_several_units_in_a_process_that_dies_only_the_guilty_fail(
    runner: PayloadRunner, tmp_path: Path
) -> None:
    payload = python(CROWD, environment={"STARTS": str(tmp_path / "starts")})
    names = ["copy1", "kill2", "copy3", "kill4", "copy5"]
    results = await run_all(runner, units_of(tmp_path, names, payload))
    for name, result in zip(names, results, strict=True):
        assert isinstance(result, PayloadResult) == name.startswith("copy"), (name, result)
    assert "SIGABRT" in str(results[1])
    assert "SIGABRT" in str(results[3])
    # The first, and one after each of the guilty, which died by themselves.
    assert len(started(tmp_path)) == 4


async def test_units_of_a_process_that_is_killed_are_done_by_another(
    runner: PayloadRunner, tmp_path: Path
) -> None:
    code = """
def once(unit):
    if "hang" in unit.directory.name and len(Path(os.environ["STARTS"]).read_text().split()) == 1:
        hang(unit)
    copy(unit)

serve(once, initialise)
"""
    payload = python(code, environment={"STARTS": str(tmp_path / "starts")})
    calls = units_of(tmp_path, ["hang1", "hang2", "copy3", "copy4"], payload)
    hanging = calls[:2]
    told: dict[Path, float] = {}
    running = asyncio.ensure_future(
        asyncio.gather(
            *(
                runner.run(call, lambda cpu_s, call=call: told.update({call.log: cpu_s}))  # type: ignore[misc]
                for call in calls
            ),
            return_exceptions=True,
        )
    )
    # What they use is looked at as soon as the runner knows that they have begun.
    await until(lambda: all(call.log in told for call in hanging))
    await until(lambda: all((call.directory / "pid").exists() for call in hanging))
    workers = [int((call.directory / "pid").read_text()) for call in hanging]
    os.kill(started(tmp_path)[0], signal.SIGKILL)
    results = await running
    assert all(isinstance(result, PayloadResult) for result in results), results
    assert len(started(tmp_path)) == 2
    for pid in workers:
        await until(lambda pid=pid: is_gone(pid))  # type: ignore[misc]


async def test_a_unit_that_nobody_wants_any_more_leaves_the_process_alone(
    runner: PayloadRunner, tmp_path: Path
) -> None:
    payload = by_name(tmp_path)
    (call,) = units_of(tmp_path, ["hang1"], payload)
    unwanted = asyncio.ensure_future(runner.run(call, lambda cpu_s: None))
    await until((call.directory / "pid").exists)
    unwanted.cancel()
    with pytest.raises(asyncio.CancelledError):
        await unwanted
    await until(lambda: is_gone(int((call.directory / "pid").read_text())))
    await run_all(runner, units_of(tmp_path, ["copy2"], payload))
    assert len(started(tmp_path)) == 1


async def test_a_loop_that_is_deaf_is_ended_when_its_unit_is_not_wanted(
    runner: PayloadRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosted, "CANCEL_S_MAX", 0.05)
    call = PayloadRunnerContract.call(tmp_path / "hang1", looped("hang"))
    unwanted = asyncio.ensure_future(runner.run(call, lambda cpu_s: None))
    await until((call.directory / "pid").exists)
    unwanted.cancel()
    with pytest.raises(asyncio.CancelledError):
        await unwanted
    await until(lambda: is_gone(int((call.directory / "pid").read_text())))


@pytest.mark.parametrize(
    "serving", ["serve(talk)", "for unit in units():\n  with unit: talk(unit)"]
)
async def test_logs_that_grow_without_end_keep_their_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serving: str
) -> None:
    monkeypatch.setattr(logs, "CUT_BYTES", 400)
    monkeypatch.setattr(logs, "LOG_BYTES_MAX", 100)
    code = f"""
def talk(unit):
    exec({TALKER!r})
    unit.failed("was cut")

"""
    runner = LongLivedRunner(watch_every_s=0.01)
    payload = python(code + serving, wall_s_max=WAIT_S_MAX)
    call = PayloadRunnerContract.call(tmp_path / "unit", payload)
    with pytest.raises(PayloadError, match="was cut"):
        await runner.run(call, lambda cpu_s: None)
    await runner.close()
    assert "line 0\n" not in call.log.read_text()
    assert "line" in call.log.read_text()


async def test_a_loop_that_hangs_is_ended(tmp_path: Path) -> None:
    runner = LongLivedRunner(grace_s=0.05, watch_every_s=0.01)
    call = PayloadRunnerContract.call(tmp_path / "hang1", looped("hang", wall_s_max=0.5))
    with pytest.raises(PayloadError, match="hung"):
        await runner.run(call, lambda cpu_s: None)
    await until(lambda: is_gone(int((call.directory / "pid").read_text())))
    await runner.close()


async def test_its_standard_output_is_its_own(runner: PayloadRunner, tmp_path: Path) -> None:
    code = """
print('{"type": "done", "id": "1"}\\n' * 1000, flush=True)
for unit in units():
    os.system("echo said by a child")
    print("said by Python", flush=True)
    unit.failed("so that there is a log")
"""
    call = PayloadRunnerContract.call(tmp_path, python(code))
    with pytest.raises(PayloadError, match="so that there is a log"):
        await runner.run(call, lambda cpu_s: None)
    assert call.log.read_text() == "said by a child\nsaid by Python\n"


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("sys.exit('no database')", "exited with status 1 before it was ready: no database"),
        ("os.kill(os.getpid(), signal.SIGBUS)", "SIGBUS"),
        ("time.sleep(1000)", "was not ready after 0.5 s"),
        ("next(units()).failed('bad'); sys.exit(4)", "bad"),
        ("for unit in units(): sys.exit('gave up')", "status 1 before it had answered: gave up"),
        (
            "def leave(unit): sys.exit(0)\nserve(leave)",
            "SystemExit: 0 (it called sys.exit; return instead, or raise what is wrong); see",
        ),
        ("for unit in units(): pass", "without an answer"),
        ("for unit in units(): unit._channel.send({'type': 'what'})", "on its channel"),
        ("for unit in units(): unit._id = 'x'; unit.done()", "'x' that it was not given"),
        ("for unit in units(): unit.done(other='x')", "stream 'other'"),
        ("for unit in units(): unit.done(output='x')", "cannot be taken away"),
        ("os.close(int(os.environ['EVSTREAM_CHANNEL_FD'])); time.sleep(1000)", "before it was"),
    ],
)
async def test_what_goes_wrong_is_told(tmp_path: Path, code: str, told: str) -> None:
    runner = LongLivedRunner(grace_s=0.1, watch_every_s=0.01)
    start_s_max = 0.5 if "not ready" in told else 60.0
    call = PayloadRunnerContract.call(tmp_path / "unit", python(code, start_s_max=start_s_max))
    with pytest.raises(PayloadError, match="payload") as caught:
        await runner.run(call, lambda cpu_s: None)
    assert told in str(caught.value)
    await runner.close()
    assert names_in(tmp_path) == ["unit"]


async def test_secondary_inputs_come_with_a_unit(runner: PayloadRunner, tmp_path: Path) -> None:
    code = """
for unit in units():
    with unit:
        (beside,) = unit.secondary.values()
        unit.output.write_text(f"{list(unit.secondary)} {beside.files[1].name} {beside.tree}")
"""
    call = PayloadRunnerContract.call(tmp_path, python(code))
    files = SecondaryFiles((str(tmp_path / "a"), str(tmp_path / "b")), "T")
    await runner.run(replace(call, secondary={"pileup": files}), lambda cpu_s: None)
    assert (tmp_path / "out put.root").read_text() == "['pileup'] b T"


async def test_outputs_written_elsewhere_are_taken_away(
    runner: PayloadRunner, tmp_path: Path
) -> None:
    code = """
for number, unit in enumerate(units()):
    part = Path(f"growing._{number:04}")
    part.write_text(f"part {number}")
    unit.done(output=part)
"""
    payload = python(code)
    for number in range(3):
        call = PayloadRunnerContract.call(tmp_path / str(number), payload)
        await runner.run(call, lambda cpu_s: None)
        assert (tmp_path / str(number) / "out put.root").read_text() == f"part {number}"


async def test_workers_that_cannot_be_forked_are_started_anew(
    runner: PayloadRunner, tmp_path: Path
) -> None:
    script = tmp_path / "threaded.py"
    script.write_text(
        BEGINNING
        + """
def with_a_thread():
    initialise()
    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()

if __name__ == "__main__":
    serve(by_name, with_a_thread, workers=2)
"""
    )
    payload = Payload(
        f"{shlex.quote(sys.executable)} {shlex.quote(str(script))}",
        kind="long-lived",
        environment={"STARTS": str(tmp_path / "starts")},
    )
    names = ["copy1", "kill2", "copy3"]
    results = await run_all(runner, units_of(tmp_path, names, payload))
    assert isinstance(results[0], PayloadResult), results
    assert "SIGSEGV" in str(results[1])
    assert isinstance(results[2], PayloadResult), results
    # The parent, one or both workers, and maybe already the one in place of the worker that died.
    assert len(started(tmp_path)) in (2, 3, 4)


async def test_a_unit_that_uses_too_much_memory_fails_alone(
    runner: PayloadRunner, tmp_path: Path
) -> None:
    code = """
shared = bytearray(os.urandom(1 << 20) * 120)
def grow(unit):
    if unit.directory.name == "more":
        own = bytearray(os.urandom(1 << 20) * 120)
        time.sleep(1000)
    copy(unit)
serve(grow, initialise)
"""
    payload = python(
        code,
        memory_bytes_max=150 << 20,
        environment={"STARTS": str(tmp_path / "starts")},
    )
    results = await run_all(runner, units_of(tmp_path, ["more", "less"], payload))
    assert "bytes of memory" in str(results[0]), results
    assert isinstance(results[1], PayloadResult), results
    assert len(started(tmp_path)) == 1


async def test_an_idle_process_ends_when_another_payload_needs_the_cores(
    runner: PayloadRunner, tmp_path: Path
) -> None:
    await run_all(runner, units_of(tmp_path, ["copy1"], by_name(tmp_path)))
    (first,) = started(tmp_path)
    await run_all(runner, units_of(tmp_path, ["copy2"], by_name(tmp_path, wall_s_max=7.0)))
    await until(lambda: is_gone(first))


async def test_closing_ends_all_of_them(tmp_path: Path) -> None:
    runner = LongLivedRunner(cores=2, grace_s=WAIT_S_MAX)
    await run_all(runner, units_of(tmp_path, ["copy1"], by_name(tmp_path)))
    await runner.close()
    assert all(is_gone(pid) for pid in started(tmp_path))


async def test_closed_while_units_are_processed(tmp_path: Path) -> None:
    runner = LongLivedRunner(cores=1, grace_s=WAIT_S_MAX)
    calls = units_of(tmp_path, ["hang1", "copy2"], by_name(tmp_path))
    running = asyncio.ensure_future(run_all(runner, calls))
    await until((tmp_path / "hang1" / "pid").exists)
    await runner.close()
    assert [type(result) for result in await running] == [TransientError, TransientError]
    assert len(started(tmp_path)) == 1
    await until(lambda: is_gone(int((tmp_path / "hang1" / "pid").read_text())))


@pytest.mark.server
async def test_it_dies_with_a_killed_pilot(tmp_path: Path) -> None:
    pilot = f"""
import asyncio
from pathlib import Path
from tests.contract.test_long_lived_payloads import by_name, units_of, run_all
from evstream.adapters.payload.long_lived import LongLivedRunner
folder = Path({str(tmp_path)!r})
asyncio.run(run_all(LongLivedRunner(2), units_of(folder, ["hang1", "hang2"], by_name(folder))))
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", pilot)
    pids = [tmp_path / name / "pid" for name in ("hang1", "hang2")]
    await until(lambda: all(path.exists() for path in pids))
    process.send_signal(signal.SIGKILL)
    await process.wait()
    for pid in [*started(tmp_path), *(int(path.read_text()) for path in pids)]:
        await until(lambda pid=pid: is_gone(pid))  # type: ignore[misc]


async def test_workers_that_cannot_be_started_anew_end_the_process(tmp_path: Path) -> None:
    code = """
def with_a_thread():
    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()

serve(lambda unit: None, with_a_thread, workers=1)
"""
    runner = LongLivedRunner(grace_s=0.1, watch_every_s=0.01)
    call = PayloadRunnerContract.call(tmp_path / "unit", python(code))
    with pytest.raises(PayloadError, match="payload"):
        await runner.run(call, lambda cpu_s: None)
    await runner.close()
    assert "cannot be given the payload" in call.log.read_text()
