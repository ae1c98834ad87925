"""Targets under the fuzzer, each in a process with limits: ``python -m tests.fuzz.child``.

Instrumenting evstream takes far longer than a test's share of fuzzing. So this process does it
once, and forks for each target that a line on its standard input asks for (`Work`, as JSON); it
answers each by a line with the exit status.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ADDRESS_BYTES_MAX = 6 << 30
RESIDENT_MB_MAX = 1500
INPUT_S_MAX = 20


@dataclass(frozen=True, slots=True)
class Work:
    """A target to fuzz for some seconds; what the fuzzer prints goes to a file."""

    target: str
    seconds: int
    seed: int
    log: str


def main() -> None:
    """Fuzz what standard input asks for until it ends, or replay one input."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=Path, required=True)
    parser.add_argument("--findings", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--replay", nargs=2, metavar=("TARGET", "FILE"))
    wanted = parser.parse_args()
    os.environ["EVSTREAM_FUZZ_INPUTS"] = str(wanted.inputs)
    targets = instrumented()
    if wanted.replay:
        limit_memory()
        name, file = wanted.replay
        targets[name](Path(file).read_bytes())
        return
    wanted.findings.mkdir(parents=True, exist_ok=True)
    print("ready", flush=True)
    while line := sys.stdin.readline():
        work = Work(**json.loads(line))
        child = os.fork()
        if child == 0:
            fuzz(work, targets[work.target], wanted.inputs / work.target, wanted.findings)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def instrumented() -> dict[str, Callable[[bytes], None]]:
    """Return the targets, with all of evstream that they use under the fuzzer's eyes."""
    import atheris

    with atheris.instrument_imports(include=["evstream"]):
        from tests.fuzz.targets import TARGETS
    return TARGETS


def limit_memory() -> None:
    """Let what takes too much memory be a finding, and not the machine's end."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_BYTES_MAX, ADDRESS_BYTES_MAX))


def fuzz(work: Work, run: Callable[[bytes], None], corpus: Path, findings: Path) -> None:
    """Fuzz in this process, which ends then."""
    import atheris

    limit_memory()
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(work.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for old, new in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(old, new)
    longest = max(path.stat().st_size for path in corpus.iterdir())
    options = [
        f"-max_total_time={work.seconds}",
        f"-max_len={2 * longest + 64}",
        f"-timeout={INPUT_S_MAX}",
        f"-rss_limit_mb={RESIDENT_MB_MAX}",
        f"-artifact_prefix={findings}/{work.target}-",
        f"-seed={work.seed}",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
