"""Clients of a service elsewhere, and pilots."""

from __future__ import annotations

from pathlib import Path

from evstream.adapters.clock import SystemClock
from evstream.adapters.formats import KnownFormats
from evstream.adapters.ids import RandomIds
from evstream.adapters.offload import Threads
from evstream.adapters.payload.by_kind import PayloadsByKind
from evstream.adapters.source.fsspec import FsspecOpener
from evstream.client import Address, Connection, Service
from evstream.domain.names import WorkerId
from evstream.pilot import Pilot, PilotSettings, Tools
from evstream.ports import (
    PayloadRunner,
)


def connect(address: Address, patience_s: float) -> Service:
    """Return a client of the service at an address."""
    return Service(
        Connection(
            address.transport(),
            SystemClock(),
            RandomIds(),
            base_url=address.base_url,
            token=address.bearer(),
            patience_s=patience_s,
            elsewhere=address.elsewhere,
        )
    )


def make_pilot(
    service: Service,
    settings: PilotSettings,
    directory: Path,
    worker: WorkerId,
    runner: PayloadRunner | None = None,
) -> Pilot:
    """Return a pilot that works for a service; payloads are processes unless said otherwise."""
    return Pilot(
        service,
        Tools(
            runner or PayloadsByKind(settings.cores),
            KnownFormats(),
            Threads(max(4, settings.cores)),
            FsspecOpener(),
        ),
        SystemClock(),
        RandomIds(),
        settings,
        directory,
        worker,
    )
