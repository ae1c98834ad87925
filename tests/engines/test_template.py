"""Batch systems by a template: what they are given, and what is read of their answers."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import pytest

from evstream.adapters.engines.template import KNOWN, TemplateEngine, fill, read_template
from evstream.cli.engine_options import EngineOptions, pilot_environment
from evstream.client import Address
from evstream.domain.errors import ConfigError, RequestError
from evstream.domain.names import WorkerId
from evstream.ports import PilotOrder, PilotStage
from tests.engines.jobs import SLOW, logs, of_task, service_with_task
from tests.engines.slurm import slurm, wait_for_no_job
from tests.spine.commands import CommandLine

ORDER = PilotOrder(
    WorkerId("pilot-1"), ("evstream", "pilot", "--task", "a b"), {"EVSTREAM_URL": "http://h"}, 4
)

# Commands that note their words, and answer as the batch system does.
NOTE = """\
#!/bin/sh
printf '%s\\n' "$(basename "$0")" "$@" >>"$(dirname "$0")/said"
cat "$(dirname "$0")/answer.$(basename "$0")" 2>/dev/null || true
"""

SYSTEMS = {
    "htcondor": {
        "commands": ("condor_submit", "condor_q", "condor_rm"),
        "submitted": "17.0 - 17.0",
        "pending": "17.0 1",
        "running": "16.0 1\n17.0 2",
        "broken": "17.0 5",
        "job": "17.0",
    },
    "pbs": {
        "commands": ("qsub", "qstat", "qdel"),
        "submitted": "1234.head",
        "pending": """\
Job id            Name             User              Time Use S Queue
----------------  ---------------- ----------------  -------- - -----
1234.head         pilot            alice                    0 Q workq
""",
        "running": "1234.he*          pilot            alice             00:00:01 R workq\n",
        "broken": "",
        "job": "1234",
    },
    "sge": {
        "commands": ("qsub", "qstat", "qdel"),
        "submitted": "77",
        "pending": """\
job-ID  prior   name       user         state submit/start at     queue        slots ja-task-ID
-------------------------------------------------------------------------------------------------
     77 0.00000 pilot-1    alice        qw    11/20/2026 10:00:00                  4
""",
        "running": "     77 0.55500 pilot-1    alice        r     11/20/2026 10:00:05 all.q@n1 4\n",
        "broken": "     77 0.55500 pilot-1    alice        Eqw   11/20/2026 10:00:05           4\n",
        "job": "77",
    },
}


@pytest.mark.anyio
@pytest.mark.parametrize("name", SYSTEMS)
async def test_a_batch_system_is_spoken_to(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = SYSTEMS[name]
    submit, status, cancel = system["commands"]
    programs = tmp_path / "bin"
    programs.mkdir()
    for program in system["commands"]:
        (programs / program).write_text(NOTE)
        (programs / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    engine = TemplateEngine(tmp_path / "pilots", "pilot", name)
    await engine.open()
    (programs / f"answer.{submit}").write_text(str(system["submitted"]))
    await engine.start(ORDER)

    async def state(answer: str) -> PilotStage:
        (programs / f"answer.{status}").write_text(answer)
        return (await engine.look())[ORDER.name].stage

    assert await state(str(system["pending"])) is PilotStage.PENDING
    assert await state(str(system["running"])) is PilotStage.RUNNING
    await engine.end(ORDER.name)
    said = (programs / "said").read_text().splitlines()
    assert said[-2:] == [cancel, system["job"]]
    if system["broken"]:
        # What will never run is taken back, and another is started.
        assert await state(str(system["broken"])) is PilotStage.ENDED
        assert (programs / "said").read_text().splitlines()[-2:] == [cancel, system["job"]]
    assert await state("") is PilotStage.ENDED
    (tmp_path / "pilots" / "pilots" / "pilot-1.exit").write_text("3\n")
    assert (await engine.look())[ORDER.name].cause == "exit 3"
    await engine.forget(ORDER.name)
    assert await engine.look() == {}
    assert not [*(tmp_path / "pilots" / "pilots").iterdir()]


@pytest.mark.anyio
async def test_a_job_that_is_handed_in_while_all_ends_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for program in ("qsub", "qstat", "qdel"):
        (programs / program).write_text(NOTE)
        (programs / program).chmod(0o755)
    # It answers when it has been written to.
    os.mkfifo(programs / "answer.qsub")
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    engine = TemplateEngine(tmp_path / "pilots", "pilot", "pbs")
    await engine.open()
    starting = asyncio.ensure_future(engine.start(ORDER))
    await asyncio.sleep(0)
    starting.cancel()
    await asyncio.to_thread((programs / "answer.qsub").write_text, "1234.head")
    with pytest.raises(asyncio.CancelledError):
        await starting
    await engine.end(ORDER.name)
    assert (programs / "said").read_text().splitlines()[-2:] == ["qdel", "1234"]


@pytest.mark.parametrize("name", [path.stem for path in KNOWN.glob("*.toml")])
def test_every_placeholder_of_ours_is_known(name: str) -> None:
    template, beside = read_template(name)
    known = dict.fromkeys(("name", "group", "folder", "log", "cores", "script", "file"), "x")
    known |= template.values
    for words in (template.submit, template.status, [*template.cancel]):
        for word in words:
            assert "{" not in fill(word, {**known, "job": "1"})
    assert "{" not in fill(beside, known)


@pytest.mark.anyio
async def test_a_submit_description_of_htcondor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "condor_submit").write_text("#!/bin/sh\necho 1.0 - 1.0\n")
    (programs / "condor_submit").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    options = ["memory=4GB", 'requirements=HasCvmfs && Arch == "X86_64"']
    engine = TemplateEngine(tmp_path / "p", "pilot", "htcondor", options)
    await engine.open()
    await engine.start(ORDER)
    text = (tmp_path / "p/pilots/pilot-1.job").read_text()
    assert "request_cpus = 4\nrequest_memory = 4GB\n" in text
    assert 'requirements = NumJobStarts == 0 && (HasCvmfs && Arch == "X86_64")\n' in text
    assert f"executable = {tmp_path}/p/pilots/pilot-1.sh\n" in text
    assert '+EvstreamGroup = "pilot"\n' in text
    script = (tmp_path / "p/pilots/pilot-1.sh").read_text()
    assert "evstream pilot --task 'a b' &\n" in script
    assert "export EVSTREAM_URL=http://h\n" in script


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("submit = 1", "cannot be used"),
        ("", "cannot be used"),
        (None, "one of ours: htcondor, pbs, sge"),
    ],
)
def test_what_is_no_template_is_told(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "mine.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_template(str(path))
    assert said in f"{caught.value} {caught.value.hint}"


GOOD = """\
submit = ["sub", "{script}"]
job = "([0-9]+)"
status = ["stat"]
line = "^(?P<job>[0-9]+) (?P<state>.)$"
pending = ["Q"]
running = ["R"]
cancel = ["del", "{job}"]
"""


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ('job = "([0-9]+)"', 'job = "[0-9]+"', "'job' has no group"),
        ("(?P<state>.)", ".", "'line' has no group state"),
        ('submit = ["sub", "{script}"]', "submit = []", "'submit' names no command"),
        ("{script}", "{scirpt}", "{scirpt} in the template is no placeholder"),
        ("{job}", "{jb}", "{jb} in the template is no placeholder"),
    ],
)
def test_a_template_that_cannot_work_is_refused_at_once(
    tmp_path: Path, right: str, wrong: str, told: str
) -> None:
    template = tmp_path / "own.toml"
    template.write_text(GOOD)
    TemplateEngine(tmp_path / "pilots", "pilot", str(template))
    assert right in GOOD
    template.write_text(GOOD.replace(right, wrong))
    with pytest.raises(ConfigError, match=re.escape(told)):
        TemplateEngine(tmp_path / "pilots", "pilot", str(template))


def test_what_is_a_users_own_is_not_passed_to_pilots(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "EVSTREAM_CATALOGUE": "postgresql://h/db",
        "EVSTREAM_OUTPUT_STORE": "https://me:secret@host/x",
        "EVSTREAM_SITE": "lyon",
        "HTTPS_PROXY": "me:secret@proxy:3128",
        "HTTP_PROXY": "http://proxy:3128",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    passed = pilot_environment(Address("http://h"), "")
    assert {name for name in given if name in passed} == {"EVSTREAM_SITE", "HTTP_PROXY"}
    assert "secret" not in str(passed)


def test_wrong_placeholders_and_options_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape("{colour} in the template is no placeholder")):
        fill("{name} {colour}", {"name": "x"})
    with pytest.raises(ConfigError, match="has no option 'colour=red'"):
        TemplateEngine(tmp_path, "pilot", "sge", ["colour=red"])


@pytest.mark.parametrize(
    "options",
    [
        EngineOptions(option=("--time=1",)),
        EngineOptions(template="sge"),
        EngineOptions(engine="template"),
        EngineOptions(engine="slurm", scheduler="tcp://h:1"),
        EngineOptions(engine="dask", scheduler="tcp://h:1", option=("a=1",)),
        EngineOptions(engine="dask", scheduler="tcp://h:1", resource=("pilot",)),
        EngineOptions(engine="dask", scheduler="tcp://h:1", resource=("pilot=x",)),
    ],
)
def test_flags_that_do_not_fit_are_told(options: EngineOptions) -> None:
    with pytest.raises(RequestError):
        options.make("pilot", 1)


@pytest.mark.server
@pytest.mark.root_user
def test_a_real_batch_system_by_the_template_of_the_page(
    command: CommandLine, tmp_path: Path, events: Path
) -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/start-pilots.md").read_text()
    (text,) = re.findall(r"```toml file=mine.toml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "mine.toml").write_text(text)
    data = service_with_task(command, tmp_path, events, SLOW, size=50)
    words = ["pilots", "--engine", "template", "--template", "mine.toml", "--n", 2]
    words += ["--option", "time=0:30:00", "--until-done", "--json", "--data", data]
    with slurm() as environment:
        kept = command.run(*words, env=environment)
        wait_for_no_job(environment)
    assert of_task(command, data)["state"] == "done", kept.stderr
    assert len(logs(tmp_path / "evstream-pilots")) == 2, kept.stderr
