"""A pilot takes the steps of an experiment that is installed beside it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from evstream.assembly.steps import load_steps
from evstream.domain.errors import ConfigError
from tests.engines.jobs import of_task, service_with_task
from tests.spine.commands import CommandLine, wait_until

STEPS = """\
import os
from pathlib import Path
from threading import Event

from evstream.pilot import PilotSteps

NOTES = Path(os.environ["NOTES"])


class Steps(PilotSteps):
    version = 1

    def say(self, line):
        with NOTES.open("a") as file:
            file.write(line + "\\n")

    def prepare_node(self, scratch):
        assert scratch.is_dir()
        if os.environ.get("BROKEN"):
            raise RuntimeError("no CVMFS")
        if os.environ.get("HANGING"):
            self.say("hangs")
            Event().wait()
        self.say("prepared")

    def stage_payload(self, payload, scratch):
        return {"OUR_RELEASE": "25.0"}

    def before_unit(self, unit):
        (unit.directory / "conditions").write_text("a")

    def after_unit(self, unit):
        self.say("unit " + unit.values["entry_start"] + " " + unit.log.read_text().strip())

    def leaving(self):
        self.say("left")


class Old(PilotSteps):
    version = 0


class Other:
    pass
"""

PAYLOAD = "sh -c 'echo $OUR_RELEASE $(cat conditions); cp {input} {output}'"


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with an installed distribution that has steps called ``ours``."""
    site = tmp_path / "site"
    info = site / "our_experiment-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "our_experiment.py").write_text(STEPS)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: our-experiment\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[evstream.pilot_steps]\nours = our_experiment:Steps\n")
    return site


@pytest.mark.server
def test_steps_of_an_installed_package_are_taken(
    command: CommandLine, tmp_path: Path, events: Path, installed: Path
) -> None:
    data = service_with_task(command, tmp_path, events, PAYLOAD, size=300)
    notes = tmp_path / "notes"
    path = os.pathsep.join([str(installed), os.environ.get("PYTHONPATH", "")])
    ours = {"PYTHONPATH": path, "NOTES": str(notes), "EVSTREAM_PILOT_IDLE_S_MAX": "0"}
    words = ["pilot", "--data", data, "--steps"]
    broken = command.run(*words, "ours", env={**ours, "BROKEN": "yes"}, status=1)
    assert "step prepare_node failed: RuntimeError: no CVMFS" in broken.stderr
    old = command.run(*words, "our_experiment:Old", env=ours, status=1)
    assert "written for steps of version 0, here is 1" in old.stderr
    command.run(*words, "ours", env=ours)
    assert of_task(command, data)["state"] == "done"
    said = notes.read_text().splitlines()
    assert said[0] == "prepared"
    assert said[-1] == "left"
    assert sorted(said[1:-1]) == ["unit 0 25.0 a", "unit 300 25.0 a"]


@pytest.mark.server
def test_a_step_that_hangs_does_not_keep_a_pilot_from_leaving(
    command: CommandLine, tmp_path: Path, events: Path, installed: Path
) -> None:
    data = service_with_task(command, tmp_path, events, PAYLOAD, size=300)
    notes = tmp_path / "notes"
    path = os.pathsep.join([str(installed), os.environ.get("PYTHONPATH", "")])
    words = ["pilot", "--data", data, "--steps", "ours"]
    pilot = command.start(*words, PYTHONPATH=path, NOTES=str(notes), HANGING="yes")
    wait_until(lambda: notes.exists() and "hangs" in notes.read_text(), "the step")
    assert command.end(pilot, signal.SIGTERM) == 0


def test_what_cannot_be_loaded_is_told(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(installed))
    monkeypatch.setenv("NOTES", str(installed / "notes"))
    assert load_steps("") is None
    assert load_steps("ours") is not None
    for named, said in {
        "theirs": "no installed package has pilot's steps called 'theirs'",
        "nowhere_at_all:Steps": "cannot be loaded: ModuleNotFoundError",
        "our_experiment:Nobody": "cannot be loaded: AttributeError",
        "our_experiment:Other": "is no class of pilot's steps",
    }.items():
        with pytest.raises(ConfigError, match=said):
            load_steps(named)
