"""``evstream pilots`` with a real Slurm."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.engines.jobs import SLOW, logs, of_task, service_with_task, wait_for_logs
from tests.engines.slurm import slurm, wait_for_no_job
from tests.spine.commands import CommandLine, wait_until

pytestmark = [pytest.mark.server, pytest.mark.root_user]


def test_pilots_are_jobs_of_slurm(command: CommandLine, tmp_path: Path, events: Path) -> None:
    data = service_with_task(command, tmp_path, events, SLOW, size=20)
    folder = tmp_path / "evstream-pilots"
    words = ["pilots", "--engine", "slurm", "--n", 2, "--option=--comment=ours", "--data", data]
    with slurm() as environment:
        first = command.start(*words, **environment)
        wait_for_logs(folder, 2, first)
        # Jobs are found again by their names.
        command.end(first, signal.SIGKILL)
        kept = command.run(*words, "--until-done", "--json", env=environment)
        wait_for_no_job(environment)
    assert of_task(command, data)["state"] == "done", kept.stderr
    assert len(logs(folder)) == 2, kept.stderr
    assert not [*(folder / "pilots").iterdir()]


def test_jobs_that_end_are_replaced_and_a_signal_cancels_them(
    command: CommandLine, tmp_path: Path, events: Path
) -> None:
    data = service_with_task(command, tmp_path, events, SLOW, size=5)
    folder = tmp_path / "evstream-pilots"
    with slurm() as environment:
        keeper = command.start(
            "pilots", "--engine", "slurm", "--n", 1, "--data", data, **environment
        )
        wait_until(lambda: of_task(command, data)["process"]["finished"] > 0, "events")
        (log,) = logs(folder)
        kill = ["scancel", "--signal=KILL", "--full", f"--name={log.stem}"]
        subprocess.run(kill, env={**os.environ, **environment}, check=True)
        wait_for_logs(folder, 2, keeper)
        assert command.end(keeper, signal.SIGTERM) == 143
        wait_for_no_job(environment)
    assert of_task(command, data)["process"]["running"] == 0
