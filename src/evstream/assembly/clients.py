"""Clients of a service elsewhere, and pilots."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from evstream.adapters.catalogue.data_directory import NETWORK_FILE_SYSTEMS, file_system_of
from evstream.adapters.clock import SystemClock
from evstream.adapters.formats import KnownFormats
from evstream.adapters.ids import RandomIds
from evstream.adapters.notices import configured_notices
from evstream.adapters.offload import Threads
from evstream.adapters.payload.by_kind import PayloadsByKind
from evstream.assembly.origins import open_origins
from evstream.assembly.output_stores import make_writer
from evstream.assembly.steps import load_steps
from evstream.client import Address, Connection, Service
from evstream.domain.errors import ConfigError
from evstream.domain.names import WorkerId
from evstream.edge import OwnCuts
from evstream.pilot import NodeCache, Pilot, PilotSettings, Tools
from evstream.ports import PayloadRunner
from evstream.settings import Settings

OWN_CUT_THREADS = 16


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
    settings: Settings,
    pilot_settings: PilotSettings,
    directory: Path,
    worker: WorkerId,
    runner: PayloadRunner | None = None,
) -> Pilot:
    """Return a pilot that works for a service; payloads are processes unless said otherwise.

    Parameters
    ----------
    settings : Settings
        Of this node: how it reads sources.
    pilot_settings : PilotSettings
        Of this pilot.
    directory : Path
        Scratch space, which exists.

    Raises
    ------
    ConfigError
        A setting has no such value.
    """
    cores, clock, formats = pilot_settings.cores, SystemClock(), KnownFormats()
    # Whoever runs it may read what it is told to read: its payloads can anyway.
    opener = open_origins(settings, own=True)
    cutter = None
    if _cuts_itself(settings):
        # Threads of their own: they wait for sources, and must not keep others from computing.
        reading = Threads(OWN_CUT_THREADS)
        cutter = OwnCuts(service.edges, opener, formats, reading, clock, OWN_CUT_THREADS)
    offload = Threads(max(4, cores))
    return Pilot(
        service,
        Tools(
            runner or PayloadsByKind(cores),
            formats,
            offload,
            opener,
            cutter=cutter,
            node_cache=_node_cache(settings, offload),
            writer=make_writer(settings),
            notices=configured_notices(settings.eviction_notice, settings.metadata_url, os.environ),
            steps=load_steps(settings.pilot_steps),
        ),
        clock,
        RandomIds(),
        pilot_settings,
        directory,
        worker,
    )


def _node_cache(settings: Settings, offload: Threads) -> NodeCache | None:
    if not settings.node_cache:
        return None
    directory = Path(settings.node_cache).absolute()
    with suppress(OSError):
        mounts = Path("/proc/self/mountinfo").read_text(errors="replace")
        if (kind := file_system_of(directory.resolve(), mounts)) in NETWORK_FILE_SYSTEMS:
            raise ConfigError(
                f"node_cache {directory} is on {kind}, where locks are not to be relied on",
                hint="choose a folder on a local disk",
            )
    return NodeCache(directory, settings.node_cache_bytes_max, SystemClock(), offload)


def _cuts_itself(settings: Settings) -> bool:
    if settings.own_cuts not in ("auto", "never"):
        raise ConfigError(f"own_cuts is {settings.own_cuts!r}", hint="write never or auto")
    return settings.own_cuts == "auto"
