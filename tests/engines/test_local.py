"""``evstream pilots`` with processes of this machine."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import msgspec
import psutil
import pytest

from tests.engines.jobs import (
    SLOW,
    logs,
    of_task,
    processes,
    service_with_task,
    wait_for_logs,
)
from tests.spine.commands import CommandLine, wait_until

pytestmark = pytest.mark.server


def pids(folder: Path) -> set[int]:
    """Return the processes that a keeper knows."""
    return {msgspec.json.decode(path.read_bytes())["pid"] for path in processes(folder)}


def lives(pid: int) -> bool:
    """Tell whether a process runs; one that nobody has looked after yet does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_pilots_work_until_the_task_is_done_and_leave(
    command: CommandLine, tmp_path: Path, events: Path
) -> None:
    data = service_with_task(command, tmp_path, events)
    kept = command.json("pilots", "--n", 2, "--task", 1, "--until-done", "--data", data)
    assert of_task(command, data)["state"] == "done"
    assert kept["started"] == 2
    assert kept["failed"] == 0
    assert len(logs(tmp_path / "evstream-pilots")) == 2
    assert processes(tmp_path / "evstream-pilots") == []


def test_a_task_with_events_set_aside_is_told_by_the_exit_status(
    command: CommandLine, tmp_path: Path, events: Path
) -> None:
    data = service_with_task(
        command, tmp_path, events, payload="sh -c 'exit 1' {input} {output}", size=600
    )
    words = ["pilots", "--task", 1, "--until-done", "--data", data]
    done = command.run(*words, status=3, env={"EVSTREAM_PATIENCE_S": "30"})
    assert "task 1 failed" in done.stderr


def test_a_keeper_that_was_killed_finds_its_pilots_again_and_replaces_dead_ones(
    command: CommandLine, tmp_path: Path, events: Path
) -> None:
    data = service_with_task(command, tmp_path, events, SLOW, size=10)
    folder = tmp_path / "evstream-pilots"
    words = ["pilots", "--n", 2, "--until-done", "--data", data]
    first = command.start(*words)
    wait_for_logs(folder, 2, first)
    wait_until(lambda: len(processes(folder)) == 2, "records of processes")
    known = pids(folder)
    command.end(first, signal.SIGKILL)
    second = command.start(*words)
    # Somebody else may not keep them too.
    third = command.start(*words)
    both = (second, third)
    wait_until(lambda: any(one.poll() is not None for one in both), "a refusal")
    keeper = second if third.poll() is not None else third
    assert keeper.poll() is None
    victim = min(known)
    os.kill(victim, signal.SIGKILL)
    wait_for_logs(folder, 3, keeper)
    wait_until(lambda: len(processes(folder)) == 2, "the burial")
    assert known - pids(folder) == {victim}
    assert command.end(keeper, signal.SIGTERM) == 143
    assert processes(folder) == []
    wait_until(lambda: not any(map(lives, known)), "the end of all pilots")
    # Nobody has to wait for their leases.
    assert of_task(command, data)["process"]["running"] == 0


def test_a_second_signal_ends_pilots_that_take_their_time(
    command: CommandLine, tmp_path: Path, events: Path
) -> None:
    data = service_with_task(command, tmp_path, events, SLOW.replace("0.5", "3600"), size=10)
    keeper = command.start("pilots", "--data", data, EVSTREAM_DRAIN_S="3600")
    folder = tmp_path / "evstream-pilots"
    wait_until(lambda: len(processes(folder)) == 1, "a pilot")
    (pid,) = pids(folder)
    wait_until(lambda: of_task(command, data)["process"]["running"] > 0, "a unit")
    keeper.send_signal(signal.SIGTERM)

    def are_ended() -> bool:
        if "the pilots are ended" in command.said(keeper):
            return True
        # The first of these may be taken for the signal before, come by another way.
        keeper.send_signal(signal.SIGTERM)
        return False

    wait_until(are_ended, "the second signal")
    assert keeper.wait(timeout=120) == 143
    assert not lives(pid)


def test_a_token_reaches_pilots_by_a_file_that_others_cannot_read(
    command: CommandLine, tmp_path: Path, events: Path
) -> None:
    data = tmp_path / "service"
    command.serve(data, "--port", 0)
    command.run("dataset", "add", "user:a", events, "--data", data)
    command.run("submit", "user:a", "--payload", SLOW, "--events-per-range", 10, "--data", data)
    keeper = command.start("pilots", "--data", data)
    folder = tmp_path / "evstream-pilots"
    wait_until(lambda: len(processes(folder)) == 1, "a pilot")
    token = (data / "token").read_text()
    (pid,) = pids(folder)
    shown = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
    assert token.encode() not in shown
    assert (folder / "token").read_text() == token
    assert (folder / "token").stat().st_mode & 0o077 == 0
    wait_until(lambda: of_task(command, data)["process"]["finished"] > 0, "events")
    assert command.end(keeper, signal.SIGINT) == 130
    assert not (folder / "token").exists()
