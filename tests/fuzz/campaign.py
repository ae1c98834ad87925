"""All targets for some time: ``python -m tests.fuzz.campaign --seconds 600``.

Exits with 1 if something was found; what to replay is printed.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

FINDINGS = Path("build/fuzz")
_RUNS = re.compile(rb"stat::number_of_executed_units:\s*(\d+)")
_WRITTEN = re.compile(rb"Test unit written to (\S+)")
START_S = 60
TAIL_CHARS = 3000


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


def fuzz(target: str, inputs: Path, seconds: int, seed: int) -> Outcome:
    """Fuzz one target in a process of its own."""
    command = [sys.executable, "-m", "tests.fuzz.child", target, "--inputs", str(inputs)]
    command += ["--findings", str(FINDINGS), "--seconds", str(seconds), "--seed", str(seed)]
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=seconds + START_S + 120,
        check=False,
        env={**os.environ, "TQDM_DISABLE": "1"},
    )
    runs = _RUNS.search(done.stdout)
    found = _WRITTEN.search(done.stdout)
    return Outcome(
        target,
        int(runs[1]) if runs else 0,
        done.returncode,
        found[1].decode() if found else "",
        done.stdout.decode(errors="replace")[-TAIL_CHARS:],
    )


def main() -> None:
    """Share the seconds among the targets, two at a time on two cores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="of all targets together")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31 - 1) + 1)
    parser.add_argument("--targets", nargs="*")
    wanted = parser.parse_args()
    together = min(2, os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(together) as pool:
        inputs = Path(folder)
        known = write_inputs(inputs)
        targets = wanted.targets or known
        if unknown := set(targets) - set(known):
            parser.error(f"no targets: {', '.join(unknown)}; there are {', '.join(known)}")
        each = max(1, wanted.seconds * together // len(targets))
        print(f"{len(targets)} targets, {each} s each, seed {wanted.seed}", flush=True)
        waiting = [pool.submit(fuzz, name, inputs, each, wanted.seed) for name in targets]
        outcomes = [one.result() for one in waiting]
    for one in outcomes:
        print(f"{one.target:20} {one.runs:10} runs  {'ok' if one.status == 0 else 'FOUND'}")
    failed = [one for one in outcomes if one.status != 0]
    for one in failed:
        print(f"\n{one.target}: {one.log}\n")
        print(
            f"replay: python -m tests.fuzz.inputs build/fuzz-inputs && python -m tests.fuzz.child "
            f"{one.target} --inputs build/fuzz-inputs --replay {one.found}"
        )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
