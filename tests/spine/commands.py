"""Commands run as processes, and the files that they work on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot

WAIT_S_MAX = 120.0


class CommandLine:
    """Runs ``evstream`` commands as a user would, and ends those still running."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[subprocess.Popen[bytes]] = []
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith("EVSTREAM_")
        }
        self._environment["EVSTREAM_PILOT_IDLE_S_MAX"] = "3600"

    def run(
        self, *words: object, status: int | None = 0, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; assert its exit status unless that is None.

        Words of `before` come before the command itself.
        """
        done = subprocess.run(
            [*options.pop("before", []), sys.executable, "-m", "evstream", *map(str, words)],
            cwd=options.pop("cwd", self._folder),
            env={**self._environment, **options.pop("env", {})},
            capture_output=True,
            text=True,
            timeout=WAIT_S_MAX * 2,
            check=False,
            **options,
        )
        if status is not None:
            assert done.returncode == status, f"{words}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *words: object) -> Any:
        """Run a command with --json and return what it printed."""
        return json.loads(self.run(*words, "--json").stdout)

    def start(self, *words: object, **environment: str) -> subprocess.Popen[bytes]:
        """Start a command that goes on; its output goes to a file in the folder."""
        log = self._folder / f"process{len(self._started)}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "evstream", *map(str, words)],
                cwd=self._folder,
                env={**self._environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def said(self, process: subprocess.Popen[bytes]) -> str:
        """Return what a process that we started has printed."""
        return (self._folder / f"process{self._started.index(process)}.log").read_text()

    def end(self, process: subprocess.Popen[bytes], number: int = signal.SIGKILL) -> int:
        """Send a signal to a process that we started and wait for its end."""
        if process.poll() is None:
            process.send_signal(number)
        return process.wait(timeout=WAIT_S_MAX)

    def end_all(self) -> None:
        """End everything that still runs."""
        for process in self._started:
            self.end(process)

    def serve(self, data: Path, *words: object, **environment: str) -> subprocess.Popen[bytes]:
        """Start a service and wait until it answers."""
        process = self.start("serve", "--data", data, *words, **environment)
        wait_until(
            lambda: (data / "address.json").exists() or process.poll() is not None,
            "the service's address",
        )
        assert process.poll() is None, "the service ended"
        return process


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds; fails after a generous time."""
    pause = threading.Event()
    for _ in range(int(WAIT_S_MAX / 0.02)):
        if condition():
            return
        pause.wait(0.02)
    raise AssertionError(f"waited in vain for {what}")


def write_events(
    path: Path, entries: int, run: int = 1, clusters: int = 5, ballast: int = 0
) -> Path:
    """Write a ROOT file with a TTree ``Events`` of flat and jagged, numbered events.

    Each has so many numbers as ballast, four bytes each, that nothing makes smaller.
    """
    rng = np.random.default_rng(run)
    with uproot.recreate(path) as file:
        tree = file.mktree(
            "Events",
            {"run": "int32", "event": "int64", "x": "float32", "Muon_pt": "var * float32"}
            | ({"ballast": np.dtype((np.float32, (ballast,)))} if ballast else {}),
        )
        for event in np.array_split(np.arange(entries), clusters):
            counts = rng.integers(0, 4, len(event))
            tree.extend(
                {
                    "run": np.full(len(event), run, np.int32),
                    "event": event,
                    "x": rng.random(len(event), np.float32),
                    "Muon_pt": ak.unflatten(rng.random(counts.sum(), np.float32), counts),
                }
                | ({"ballast": rng.random((len(event), ballast), np.float32)} if ballast else {})
            )
    return path
