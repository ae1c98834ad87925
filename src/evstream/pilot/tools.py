"""What a pilot works with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from evstream.pilot.disk import is_full
from evstream.pilot.node_cache import NodeCache
from evstream.pilot.steps import PilotSteps
from evstream.ports import (
    Cutter,
    Formats,
    Notices,
    Offload,
    OutputWriter,
    PayloadRunner,
    SourceOpener,
)


@dataclass(frozen=True, slots=True)
class Tools:
    """What units are worked on with: how payloads run, files are read, threads are had.

    Attributes
    ----------
    cutter : Cutter or None
        Makes products here, out of their sources, where no edge gives them; None where
        that is not wanted.
    disk_is_full : callable
        Whether there is no room on a directory's disk.
    node_cache : NodeCache or None
        What pilots of this node share; None where that is not wanted.
    notices : tuple of Notices
        Who may say that this node is to be left.
    steps : PilotSteps or None
        An experiment's own.
    writer : OutputWriter or None
        Writes outputs past the service; without one, all are sent to it.
    """

    runner: PayloadRunner
    formats: Formats
    offload: Offload
    opener: SourceOpener
    disk_is_full: Callable[[Path], bool] = is_full
    cutter: Cutter | None = None
    notices: tuple[Notices, ...] = ()
    node_cache: NodeCache | None = None
    steps: PilotSteps | None = None
    writer: OutputWriter | None = None
