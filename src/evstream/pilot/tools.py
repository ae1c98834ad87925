"""What a pilot works with."""

from __future__ import annotations

from dataclasses import dataclass

from evstream.ports import Formats, Offload, PayloadRunner, SourceOpener


@dataclass(frozen=True, slots=True)
class Tools:
    """What units are worked on with: how payloads run, files are read, threads are had."""

    runner: PayloadRunner
    formats: Formats
    offload: Offload
    opener: SourceOpener
