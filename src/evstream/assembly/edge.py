"""An edge: products near the workers, made from sources that the head tells of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette

import evstream
from evstream.adapters.clock import SystemClock
from evstream.adapters.formats import KnownFormats
from evstream.adapters.ids import RandomIds
from evstream.adapters.metrics import ServiceMetrics
from evstream.adapters.offload import Threads
from evstream.adapters.product_store.disk import DiskProductStore
from evstream.assembly.clients import connect
from evstream.assembly.issuers import open_issuers
from evstream.assembly.making import lanes_of, start_makers
from evstream.assembly.measures import cache_measures, lane_measures
from evstream.assembly.origins import open_origins
from evstream.client import Address, Service
from evstream.domain.caching import ByReuse
from evstream.domain.descriptor import COPY, COPY_ENCODER, Descriptor
from evstream.domain.edges import BadReplica, EdgeStatus, most_read
from evstream.domain.errors import ConfigError, TransientError
from evstream.domain.lanes import Ask, Lane
from evstream.edge import Deliveries, ProductCache, Products
from evstream.edge.access_log import AccessLog
from evstream.edge.cache import look_now_and_then
from evstream.edge.information import Information
from evstream.edge.joining import Card, Joining
from evstream.edge.placing import Placing
from evstream.edge.precaching import precached
from evstream.edge.preparing import Made, Preparing
from evstream.edge.products import Identity
from evstream.edge.sources import Sources, tell_of_bad_replicas
from evstream.edge.telling import Telling, tell_now_and_then
from evstream.edge.warming import Warming
from evstream.head.access import Access
from evstream.ports import (
    Clock,
    Formats,
    Ids,
    Offload,
    ProductStore,
    SourceOpener,
)
from evstream.settings import Settings
from evstream.web.edge_app import EdgeServices, make_edge_app
from evstream.web.readiness import Readiness
from evstream.wire.signed_urls import UrlSigner

LOOK_EVERY_S = 60.0
"""How often the cache is compared with what its folder or bucket has."""
AHEAD_KEPT_S = 600.0
"""A product that was made ahead waits so long for its reader."""
HEAD_PATIENCE_S = 2.0
"""How long an edge asks its head again before it goes on with what it knows."""


@dataclass(frozen=True, slots=True)
class EdgeParts:
    """What an edge is made of: an answer to every port.

    Attributes
    ----------
    store : ProductStore or None
        Where products are kept; None for what the settings name.
    """

    clock: Clock
    ids: Ids
    offload: Offload
    opener: SourceOpener
    formats: Formats
    store: ProductStore | None = None


class EdgeApplication:
    """An edge without a socket: its API and its loops.

    Parameters
    ----------
    head : Service
        Closed by `close`.
    url : str
        Where clients reach this edge.
    """

    def __init__(
        self,
        head: Service,
        parts: EdgeParts,
        settings: Settings,
        url: str,
        token: str = "",
    ) -> None:
        clock, offload = parts.clock, parts.offload
        self._head = head
        self._clock = clock
        self._folder = Path(settings.data_dir)
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._settings = settings
        information = Information(head.edges, clock, settings.information_s, settings.edge_name)
        self._sources = Sources(parts.opener, parts.formats, now=clock.monotonic)
        self._products = Products(information.file, self._sources, offload, settings.threads)
        self._access_log = (
            AccessLog(Path(settings.access_log), settings.access_log_bytes_max, clock)
            if settings.access_log
            else None
        )
        self.cache = ProductCache(
            parts.store or _store(settings, offload),
            ByReuse(settings.cache_bytes_max),
            clock,
            settings.cache_bytes_max,
            self._access_log,
        )
        self.lanes = lanes_of(settings, clock)
        self.telling = Telling(head.prepared, self.cache, clock, settings.edge_name)
        self.precache = precached(
            self._products, self.cache, clock, settings.precache, self.telling.heard
        )
        self.warming = Warming(information.file, self._make_ahead)
        self.deliveries = Deliveries(
            self._products, offload, clock, self.cache, self.lanes, self._heard
        )
        self.placing = self._placing(offload)
        self.joining = Joining(
            head.edges,
            clock,
            self.status,
            card=Card(settings.edge_name, url, settings.beat_s, settings.cache_bytes_max),
            folder=self._folder,
            on_quarantine=self.cache.throw_away,
            on_orders=self.placing.take,
            on_forgotten=self.telling.compare_soon,
        )
        self._preparing = self._preparing_by(parts.ids)
        self.app: Starlette = make_edge_app(
            self._services(information, parts),
            Access(token, None, clock, open_issuers(settings, clock)),
            UrlSigner(self.joining.keys),
            clock,
            self.joining.check_serving,
        )

    def _placing(self, offload: Offload) -> Placing:
        """Return what carries out the head's orders."""
        return Placing(
            self._head.edges,
            self._products,
            self.deliveries,
            self.cache,
            offload,
            self._clock,
            self.telling.heard,
        )

    def _preparing_by(self, ids: Ids) -> Preparing:
        """Return what works on requests."""
        return Preparing(
            self._head,
            self._prepare,
            self._clock,
            ids,
            name=self._settings.edge_name,
            units=2 * self.lanes.rules.makers,
            register=self.telling.register,
            takes=lambda: self.joining.takes_work,
        )

    def _services(self, information: Information, parts: EdgeParts) -> EdgeServices:
        metrics = ServiceMetrics(
            (),
            parts=[
                lambda: cache_measures(self.cache.state),
                lambda: lane_measures(self.lanes.states()),
            ],
        )
        checks = {
            "signing keys": self.joining.have_keys,
            "cache": lambda: parts.offload(self.cache.store.spool_free_bytes),
        }
        return EdgeServices(
            self._products,
            self.deliveries,
            information,
            metrics,
            Readiness(checks, parts.clock),
            self._settings.accel_location,
            self._settings.site,
        )

    def status(self) -> EdgeStatus:
        """Return what the edge says of itself."""
        readers = self.cache.readers()
        return EdgeStatus(
            version=evstream.__version__,
            site=self._settings.site,
            free_bytes=self.cache.free_bytes,
            readers=sum(readers.values()),
            lanes=self.lanes.loads(),
            reading=most_read(readers),
        )

    def _heard(self, descriptor: Descriptor, identity: Identity, asked: int) -> None:
        """Pass on what is asked for, to the head and to what works ahead."""
        self.telling.heard(descriptor, identity, asked)
        if asked:
            self.warming.heard(descriptor)

    async def _make_ahead(self, descriptor: Descriptor) -> None:
        """Make a product that nobody waits for."""
        await self.deliveries.prepare(descriptor, Ask(lane=Lane.BACKGROUND), keep_s=AHEAD_KEPT_S)

    async def _prepare(
        self, descriptor: Descriptor, ask: Ask, keep_s: float, precache: bool
    ) -> Made:
        """Make a product ahead, and keep it; a copy of the file first, or as the product."""
        is_copy = descriptor.recipe == COPY
        if precache or is_copy:
            copy = await self.precache.fetch(descriptor.sources[0].fingerprint, keep_s)
            if is_copy:
                return Made(COPY_ENCODER, copy.size, copy.sha256, copy.is_verified)
        kept = await self.deliveries.prepare(descriptor, ask, keep_s=keep_s)
        if kept is None:
            raise TransientError("there is no room for more products", hint="give the cache more")
        return Made(await self._products.encoder_id(descriptor), kept.size, kept.sha256)

    def loops(self) -> list[Coroutine[Any, Any, None]]:
        """Return what runs beside the API."""
        every_s = self._settings.beat_s
        return [
            self.joining.run(),
            self._preparing.run(),
            self.placing.run(),
            self.warming.run(),
            tell_now_and_then(self.telling, self._clock, every_s),
            look_now_and_then(self.cache, self._clock, LOOK_EVERY_S),
            tell_of_bad_replicas(self._sources, self._tell_bad, self._clock, every_s),
        ]

    async def _tell_bad(self, found: list[BadReplica]) -> None:
        await self._head.edges.bad_replicas(self._settings.edge_name, found)

    async def close(self) -> None:
        """Stop making products, close what is open and the connection to the head."""
        await self.precache.close()
        await self.deliveries.close()
        await self._products.close()
        await self._head.close()
        if self._access_log is not None:
            self._access_log.flush()


def _store(settings: Settings, offload: Offload) -> ProductStore:
    """Return where products are kept: a folder, or a bucket with a folder to spool in."""
    folder = Path(settings.data_dir)
    if not settings.cache.startswith("s3://"):
        cache = Path(settings.cache or folder / "cache")
        # Where nginx sends what is kept, it has to read it, and may be another user.
        return DiskProductStore(cache, offload, others_read=bool(settings.accel_location))
    try:
        from evstream.adapters.product_store.s3 import S3ProductStore
    except ImportError as problem:
        raise ConfigError(
            f"there is no client for S3 here: {problem}", hint="pip install 'evstream[s3]'"
        ) from problem
    return S3ProductStore(settings.cache, folder / "spool", offload)


@asynccontextmanager
async def open_edge(settings: Settings, url: str, token: str) -> AsyncIterator[EdgeApplication]:
    """Open an edge of the head that the settings name.

    Parameters
    ----------
    url : str
        Where clients reach it.
    token : str
        What opens its door to its own operator.

    Raises
    ------
    ConfigError
        No head or no name is given.
    """
    if not settings.head:
        raise ConfigError("an edge needs a head", hint="give its address with --head")
    if not settings.edge_name:
        raise ConfigError("an edge needs a name", hint="give it with --name")
    head = connect(
        Address(settings.head, settings.token, settings.ca_file, settings.token_file),
        HEAD_PATIENCE_S,
    )
    with closing(start_makers(settings)) as makers:
        parts = EdgeParts(
            clock=SystemClock(),
            ids=RandomIds(),
            offload=Threads(settings.threads),
            opener=open_origins(settings, own=False),
            formats=KnownFormats(makers),
        )
        application = EdgeApplication(head, parts, settings, settings.edge_url or url, token)
        try:
            await application.cache.open()
            yield application
        finally:
            await application.close()
