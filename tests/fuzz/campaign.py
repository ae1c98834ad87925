"""All targets for some time: ``python -m tests.fuzz.campaign --seconds 600``.

Exits with 1 if something was found; what to replay is printed.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import queue
import re
import secrets
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.child import Work

FINDINGS = Path("build/fuzz")
_RUNS = re.compile(rb"stat::number_of_executed_units:\s*(\d+)")
_WRITTEN = re.compile(rb"Test unit written to (\S+)")
START_S = 300
"""Longest that instrumenting may take on a busy machine."""
PATIENCE_S = 180
TAIL_CHARS = 3000
LOST = -1
"""The status of a target that did not end."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a target; ``found`` is the input that it failed on."""

    target: str
    runs: int
    status: int
    found: str
    log: str


def write_inputs(folder: Path) -> list[str]:
    """Write the inputs to begin with; return the targets."""
    subprocess.run([sys.executable, "-m", "tests.fuzz.inputs", str(folder)], check=True)
    return sorted(path.name for path in folder.iterdir() if path.name != "base")


class Fuzzer:
    """A process in which evstream is instrumented; it forks for each target."""

    def __init__(self, inputs: Path, logs: Path) -> None:
        self._logs = logs
        command = [sys.executable, "-m", "tests.fuzz.child", "--inputs", str(inputs)]
        self._process = subprocess.Popen(
            [*command, "--findings", str(FINDINGS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            # Threads do not survive a fork.
            env={**os.environ, "TQDM_DISABLE": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        assert self._answer(START_S) == b"ready", "evstream cannot be instrumented"

    def fuzz(self, target: str, seconds: int, seed: int) -> Outcome:
        """Fuzz one target in a process of its own."""
        log = self._logs / f"{target}-{seed}.log"
        work = Work(target, seconds, seed, str(log))
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(dataclasses.asdict(work)).encode() + b"\n")
        self._process.stdin.flush()
        status = int(self._answer(seconds + PATIENCE_S) or LOST)
        printed = log.read_bytes() if log.exists() else b""
        runs = _RUNS.search(printed)
        found = _WRITTEN.search(printed)
        return Outcome(
            target,
            int(runs[1]) if runs else 0,
            status,
            found[1].decode() if found else "",
            printed.decode(errors="replace")[-TAIL_CHARS:],
        )

    def _answer(self, seconds: float) -> bytes:
        """Wait for a line; none if the process ended, or did not answer in time."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], seconds)[0]:
            self.close()
            return b""
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        """End the process and what it forked."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()


@contextlib.contextmanager
def fuzzer(inputs: Path) -> Iterator[Fuzzer]:
    """Start a fuzzer, and end it."""
    with tempfile.TemporaryDirectory() as logs:
        made = Fuzzer(inputs, Path(logs))
        try:
            yield made
        finally:
            made.close()


def main() -> None:
    """Share the seconds among the targets, two at a time on two cores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="of all targets together")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31 - 1) + 1)
    parser.add_argument("--targets", nargs="*")
    wanted = parser.parse_args()
    together = min(2, os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as folder:
        inputs = Path(folder)
        known = write_inputs(inputs)
        targets = wanted.targets or known
        if unknown := set(targets) - set(known):
            parser.error(f"no targets: {', '.join(unknown)}; there are {', '.join(known)}")
        each = max(1, wanted.seconds * together // len(targets))
        print(f"{len(targets)} targets, {each} s each, seed {wanted.seed}", flush=True)
        outcomes = fuzz_all(targets, inputs, together, each, wanted.seed)
    for one in outcomes:
        print(f"{one.target:20} {one.runs:10} runs  {'ok' if one.status == 0 else 'FOUND'}")
    failed = [one for one in outcomes if one.status != 0]
    for one in failed:
        print(f"\n{one.target}: {one.log}\n")
        print(
            f"replay: python -m tests.fuzz.inputs build/fuzz-inputs && python -m tests.fuzz.child "
            f"--inputs build/fuzz-inputs --replay {one.target} {one.found}"
        )
    sys.exit(1 if failed else 0)


def fuzz_all(
    targets: list[str], inputs: Path, together: int, seconds: int, seed: int
) -> list[Outcome]:
    """Fuzz each target for some seconds, some of them at a time."""
    idle: queue.SimpleQueue[Fuzzer] = queue.SimpleQueue()

    def fuzz(target: str) -> Outcome:
        one = idle.get()
        try:
            return one.fuzz(target, seconds, seed)
        finally:
            idle.put(one)

    with contextlib.ExitStack() as started, ThreadPoolExecutor(together) as pool:
        for _ in range(together):
            idle.put(started.enter_context(fuzzer(inputs)))
        return [one.result() for one in [pool.submit(fuzz, name) for name in targets]]


if __name__ == "__main__":
    main()
