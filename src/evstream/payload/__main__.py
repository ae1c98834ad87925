"""``python -m evstream.payload MODULE:FUNCTION [--arrays]``: units for a Python function."""

from __future__ import annotations

import argparse

from evstream.payload.calling import Called
from evstream.payload.workers import serve


def main() -> None:
    """Serve units to the function that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m evstream.payload", description=__doc__)
    parser.add_argument("function", help="module:function or path/to/file.py:function")
    parser.add_argument("--arrays", action="store_true", help="give it the events as arrays")
    words = parser.parse_args()
    called = Called(words.function, words.arrays)
    serve(called.process, called.initialise)


if __name__ == "__main__":
    main()
