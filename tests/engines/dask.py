"""A Dask of the test's own: a scheduler and workers, each a process."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.stack.processes import Daemon


class Dask:
    """A scheduler and its workers.

    Attributes
    ----------
    file : Path
        Says where the scheduler listens.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.file = folder / "scheduler.json"
        words = ["scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
        self._scheduler = Daemon(
            _dask(*words, "--no-show", "--scheduler-file", str(self.file)),
            folder / "scheduler.log",
            self._is_written,
        )
        self.workers: list[Daemon] = []

    def _is_written(self) -> bool:
        try:
            return bool(json.loads(self.file.read_text())["address"])
        except (OSError, ValueError):
            return False

    def start(self) -> None:
        """Start the scheduler."""
        self._scheduler.start()

    def add_worker(self) -> Daemon:
        """Start a worker that has room for one pilot; no more."""
        number = len(self.workers)
        words = ["worker", "--scheduler-file", str(self.file), "--nthreads", "1", "--no-nanny"]
        words += ["--resources", "pilot=1", "--no-dashboard", "--name", f"w{number}"]
        local = self._folder / f"worker{number}"
        worker = Daemon(
            _dask(*words, "--local-directory", str(local)),
            self._folder / f"worker{number}.log",
            lambda: "Registered to" in worker.tail(),
        )
        self.workers.append(worker)
        worker.start()
        return worker

    def kill(self) -> None:
        """End them all."""
        for daemon in (*self.workers, self._scheduler):
            daemon.kill()


def _dask(*words: str) -> list[str]:
    return [sys.executable, "-m", "dask", *words]


@contextmanager
def dask(folder: Path) -> Iterator[Dask]:
    """Start a scheduler; workers come when they are asked for."""
    folder.mkdir()
    one = Dask(folder)
    try:
        one.start()
        yield one
    finally:
        one.kill()
