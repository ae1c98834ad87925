"""A service with a task, and what its pilots left when they are done."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from tests.spine.commands import CommandLine, wait_until

COPY = "cp {input} {output}"
SLOW = "sh -c 'sleep 0.5; cp {input} {output}'"


def service_with_task(
    command: CommandLine, folder: Path, events: Path, payload: str = COPY, size: int = 50
) -> Path:
    """Start a service with a task of one file; returns its data directory."""
    data = folder / "service"
    command.serve(data)
    command.run("dataset", "add", "user:a", events, "--data", data)
    words = ["--payload", payload, "--events-per-range", size]
    command.run("submit", "user:a", *words, "--data", data)
    return data


def of_task(command: CommandLine, data: Path) -> Any:
    """Return how the task is."""
    return command.json("status", 1, "--data", data)


def logs(folder: Path) -> list[Path]:
    """Return the logs of all pilots of a keeper."""
    return sorted((folder / "logs").glob("*.log"))


def processes(folder: Path) -> list[Path]:
    """Return what is known of the pilots of a keeper that are not buried."""
    return sorted((folder / "pilots").glob("*.process"))


def wait_for_logs(folder: Path, number: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until so many pilots were started."""
    wait_until(lambda: len(logs(folder)) >= number or process.poll() is not None, "pilots")
    assert process.poll() is None, "the keeper ended"
