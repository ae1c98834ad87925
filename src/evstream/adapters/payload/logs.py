"""Logs of payloads: help, not truth, so that what goes wrong with them is no error."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

LOG_BYTES_MAX = 1 << 20
"""Of a log, what is kept when it is cut; of a process's own, what one unit is given at most."""
CUT_BYTES = 64 << 20
"""A log that is longer is cut while it is written, and nobody misses the beginning."""
_LAST_LINE_CHARS_MAX = 200
_LAST_LINE_BYTES_MAX = 4096


def last_line(log: Path) -> str:
    """Return the last line of a log that says anything, made fit for a message."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LAST_LINE_BYTES_MAX))
            tail = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    if not lines:
        return ""
    printable = "".join(c if c.isprintable() else " " for c in lines[-1])
    return printable[:_LAST_LINE_CHARS_MAX]


def copy_tail(source: Path, target: Path, offset: int = 0) -> None:
    """Append the end of a log, from an offset on, to another."""
    try:
        with source.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(offset, size - LOG_BYTES_MAX))
            content = file.read(LOG_BYTES_MAX)
        if content:
            with target.open("ab") as log:
                log.write(content)
    except OSError:
        return


def cut_log(log: Path) -> bool:
    """Keep the end alone of a log that has become too long; returns whether it had.

    Whoever writes it must append. What is written at this very moment may be lost.
    """
    with contextlib.suppress(OSError):
        if log.lstat().st_size <= CUT_BYTES:
            return False
        with log.open("rb") as file:
            file.seek(-LOG_BYTES_MAX, os.SEEK_END)
            kept = file.read(LOG_BYTES_MAX)
        os.truncate(log, 0)
        with log.open("ab") as file:
            file.write(kept)
        return True
    return False
