"""A federation to look at: `make stack` starts it, says where its parts are, and ends it all.

Run as ``python -m tests.federation.up [FOLDER]``.
"""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from tests.federation.federation import Federation, federation


def describe(made: Federation) -> str:
    """Return where everything is, and what may be tried."""
    lines = [f"  {name:<16}{where}" for name, where in made.addresses().items()]
    return "\n".join(
        [
            "A federation runs:",
            *lines,
            "",
            "To use it, in another shell:",
            f"  export EVSTREAM_URL={made.url} EVSTREAM_TOKEN={made.token}",
            "  evstream edge list",
            f"  cp FILE.root {made.origin.data}/   # then chown nobody",
            f"  evstream dataset add test:mine {made.origin.root_url}/FILE.root",
            "  evstream submit test:mine --payload 'cp {input} {output}'",
            "  evstream pilot",
            "",
            "Ctrl-C ends all of it.",
        ]
    )


def main() -> None:
    """Start it, wait for a signal, end it."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    given = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    folder = given or Path(tempfile.mkdtemp(prefix="evstream-stack-", dir="/tmp"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with federation(folder) as made:
            print(describe(made), flush=True)
            stop.wait()
            print("ending ...", flush=True)
    except pytest.skip.Exception as problem:
        sys.exit(f"it cannot run here: {problem}")
    finally:
        if given is None:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
