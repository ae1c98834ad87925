"""A federation to look at: `make stack` starts it, says where its parts are, and ends it all.

Run as ``python -m tests.federation.up [--secure] [FOLDER]``.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from tests.federation.federation import Federation, federation

TOKEN_FILE = "EVSTREAM_TOKEN_FILE"


def describe(made: Federation) -> str:
    """Return where everything is, and what may be tried."""
    trusting = []
    if made.security:
        # An issuer's token for a pilot, renewed for as long as this runs.
        shown = made.security.show("guest", **{"wlcg.groups": ["/evstream/pilots"]})
        trusting = [
            f"  export EVSTREAM_CA_FILE={made.security.authority.ca_file}",
            f"  # as a pilot: unset EVSTREAM_TOKEN; export EVSTREAM_TOKEN_FILE={shown[TOKEN_FILE]}",
        ]
    lines = [f"  {name:<18}{where}" for name, where in made.addresses().items()]
    return "\n".join(
        [
            "A federation runs:",
            *lines,
            "",
            "To use it, in another shell:",
            f"  export EVSTREAM_URL={made.url} EVSTREAM_TOKEN={made.token}",
            *trusting,
            "  evstream edge list",
            f"  cp FILE.root {made.origin.data}/   # then chown nobody",
            f"  evstream dataset add test:mine {made.origin_url}/FILE.root",
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
    parser = argparse.ArgumentParser(prog="make stack", description=__doc__)
    parser.add_argument("--secure", action="store_true", help="TLS on every hop, keys and tokens")
    parser.add_argument("folder", nargs="?", type=Path)
    asked = parser.parse_args()
    given: Path | None = asked.folder
    folder = given or Path(tempfile.mkdtemp(prefix="evstream-stack-", dir="/tmp"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with federation(folder, secure=asked.secure) as made:
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
