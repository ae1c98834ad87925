"""What a number was measured on: enough to compare, nothing that names the machine."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import psutil

REPOSITORY = Path(__file__).resolve().parent.parent


def describe_machine() -> dict[str, str | int | float]:
    """Tell the processor, its cores, memory, kernel and Python. No host name, no paths."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def describe_commit(repository: Path = REPOSITORY) -> str:
    """Name the commit that was measured; ``-dirty`` where tracked files differ from it.

    Results of benchmarks and what they are told apart by do not make it dirty.
    """
    try:
        commit = _git(repository, "rev-parse", "HEAD")
        changed = _git(
            repository,
            "status",
            "--porcelain",
            "--untracked-files=no",
            "--",
            ".",
            ":!bench/results",
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}-dirty" if changed else commit


def _git(repository: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(repository), *words], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
