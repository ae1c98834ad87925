"""One target under the fuzzer, in a process with limits: ``python -m tests.fuzz.child``."""

from __future__ import annotations

import argparse
import os
import resource
import sys
from pathlib import Path

import atheris

ADDRESS_BYTES_MAX = 6 << 30
RESIDENT_MB_MAX = 1500
INPUT_S_MAX = 20


def main() -> None:
    """Fuzz for some seconds, or replay one input."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("--inputs", type=Path, required=True)
    parser.add_argument("--findings", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replay", type=Path)
    wanted = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_BYTES_MAX, ADDRESS_BYTES_MAX))
    os.environ["EVSTREAM_FUZZ_INPUTS"] = str(wanted.inputs)
    with atheris.instrument_imports(include=["evstream"]):
        from tests.fuzz.targets import TARGETS
    run = TARGETS[wanted.target]
    if wanted.replay:
        run(wanted.replay.read_bytes())
        return
    corpus = wanted.inputs / wanted.target
    longest = max(path.stat().st_size for path in corpus.iterdir())
    wanted.findings.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={wanted.seconds}",
        f"-max_len={2 * longest + 64}",
        f"-timeout={INPUT_S_MAX}",
        f"-rss_limit_mb={RESIDENT_MB_MAX}",
        f"-artifact_prefix={wanted.findings}/{wanted.target}-",
        f"-seed={wanted.seed}",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
