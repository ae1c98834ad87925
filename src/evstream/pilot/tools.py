"""What a pilot works with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from evstream.pilot.disk import is_full
from evstream.ports import Formats, Offload, PayloadRunner, SourceOpener


@dataclass(frozen=True, slots=True)
class Tools:
    """What units are worked on with: how payloads run, files are read, threads are had.

    Attributes
    ----------
    disk_is_full : callable
        Whether there is no room on a directory's disk.
    """

    runner: PayloadRunner
    formats: Formats
    offload: Offload
    opener: SourceOpener
    disk_is_full: Callable[[Path], bool] = is_full
