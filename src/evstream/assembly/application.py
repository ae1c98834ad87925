"""A service without a socket: its API, its loops, and a client in-process."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
from starlette.applications import Starlette

from evstream import daemons
from evstream.adapters.metrics import ServiceMetrics
from evstream.assembly.making import lanes_of, opinion_of
from evstream.assembly.measures import check_measures
from evstream.assembly.readiness import head_checks
from evstream.client import Connection, Service
from evstream.domain.scheduling import parse_shares
from evstream.edge import Deliveries, Products
from evstream.edge.lanes import MakingLanes
from evstream.edge.sources import Sources
from evstream.eventindex import FOLDER, EventFinder
from evstream.head import (
    Archiving,
    Assigner,
    Chains,
    Claims,
    Datasets,
    DeliveryPlans,
    Edges,
    Finishing,
    ForeignRanges,
    Merging,
    Notes,
    Nudges,
    Prepared,
    Reopening,
    Reports,
    Requests,
    Slices,
    Sweeping,
    Tasks,
    Turns,
)
from evstream.head.access import Access
from evstream.head.brokering import Brokering
from evstream.head.edge_keys import EdgeKeys
from evstream.head.judging import Judging
from evstream.head.placing import Placing
from evstream.head.plans import Planner
from evstream.head.poisoned import Poisoned
from evstream.head.scheduler import Scheduler
from evstream.ports import (
    AccessKeys,
    Archive,
    Catalogue,
    Clock,
    Formats,
    Ids,
    Ledger,
    Links,
    Loaded,
    Offload,
    OutputStore,
    ProductCatalogue,
    SourceOpener,
    TaskLocks,
    TokenIssuers,
    Whiteboard,
)
from evstream.settings import Settings
from evstream.web import Services, make_app
from evstream.web.readiness import Readiness
from evstream.wire.receipt_signature import ReceiptSigner
from evstream.wire.signed_urls import DerivedKeys, UrlSigner


@dataclass(frozen=True, slots=True)
class Parts:
    """What a service is made of: an answer to every port."""

    clock: Clock
    ids: Ids
    offload: Offload
    ledger: Ledger
    catalogue: Catalogue
    products: ProductCatalogue
    whiteboard: Whiteboard
    links: Links
    store: OutputStore
    opener: SourceOpener
    formats: Formats
    archive: Archive | None = None
    load: Loaded | None = None
    locks: TaskLocks | None = None
    access_keys: AccessKeys | None = None
    issuers: TokenIssuers | None = None


@dataclass(frozen=True, slots=True)
class Keys:
    """A service's secrets: 32 bytes each."""

    urls: bytes
    receipts: bytes


@dataclass(frozen=True, slots=True)
class _Planning:
    """What knows where products are had."""

    planner: Planner
    slices: Slices
    plans: DeliveryPlans
    edges: Edges
    placing: Placing

    @classmethod
    def of(
        cls, parts: Parts, keys: Keys, settings: Settings, signer: UrlSigner, judging: Judging
    ) -> _Planning:
        """Put it together; ``signer`` signs what the service serves itself."""
        url_life = timedelta(seconds=settings.url_life_s)
        brokering = Brokering(parts.products, parts.links)
        edge_keys = EdgeKeys(keys.urls)
        planner = Planner(signer, brokering, edge_keys, url_life, parts.store)
        slices = Slices(parts.catalogue, planner, parts.formats)
        plans = DeliveryPlans(parts.catalogue, parts.links, brokering, planner, slices)
        placing = Placing(parts.products, edge_keys, cross_check_every=settings.cross_check_every)
        edges = Edges(parts.products, parts.catalogue, edge_keys, url_life, placing, judging)
        return cls(planner, slices, plans, edges, placing)


def _delivering(
    parts: Parts, settings: Settings
) -> tuple[MakingLanes, Products, Deliveries, Judging]:
    """Return what makes and brings products, without a cache, and what judges edges by them.

    Sources are on this machine's disks mostly, and a copy of each product would cost a write
    and a read where one read does.
    """
    sources = Sources(parts.opener, parts.formats, now=parts.clock.monotonic)
    products = Products(parts.catalogue.file, sources, parts.offload, settings.threads)
    lanes = lanes_of(settings, parts.clock)
    deliveries = Deliveries(products, parts.offload, parts.clock, lanes=lanes)
    judging = Judging(parts.products, opinion_of(products, deliveries))
    return lanes, products, deliveries, judging


def _assigner(parts: Parts, scheduler: Scheduler) -> Assigner:
    """Return what gives edges work; tasks of edges take turns of their own."""
    turns = Scheduler(parts.ledger, scheduler.shares)
    return Assigner(parts.catalogue, parts.ledger, turns, parts.products)


def _metrics(parts: Parts, judging: Judging, placing: Placing) -> ServiceMetrics:
    """Return what counts beside all else."""
    checked = [lambda: check_measures(judging.judged, placing.cross_checks)]
    return ServiceMetrics(daemons.NAMES, parts.load, checked)


def _archiving(parts: Parts, settings: Settings, turns: Turns) -> Archiving:
    after = timedelta(seconds=settings.archive_after_s)
    return Archiving(parts.catalogue, parts.ledger, parts.archive, turns, after)


class Application:
    """A service without a socket: its API, its loops, and a client in-process.

    Parameters
    ----------
    token : str
        What opens the API; empty where a socket's permissions do.
    redirects : bool
        Products are at edges only; whoever asks here is sent there.
    """

    def __init__(
        self,
        parts: Parts,
        keys: Keys,
        settings: Settings,
        token: str = "",
        *,
        redirects: bool = False,
    ) -> None:
        self._parts, self._settings, self._token = parts, settings, token
        signer = UrlSigner(DerivedKeys(keys.urls))
        self.lanes, self._products, self._deliveries, judging = _delivering(parts, settings)
        planning = _Planning.of(parts, keys, settings, signer, judging)
        planner, slices, self._placing = planning.planner, planning.slices, planning.placing
        receipt_signer = ReceiptSigner(keys.receipts)
        catalogue, ledger, clock = parts.catalogue, parts.ledger, parts.clock
        turns, nudges, poison = Turns(parts.locks), Nudges(), Poisoned()
        scheduler = Scheduler(ledger, parse_shares(settings.queue_shares))
        merging = Merging(catalogue, ledger, planner, settings.merge_inputs_max)
        datasets = Datasets(catalogue, parts.opener, parts.offload, parts.formats)
        reopening = Reopening(catalogue, ledger, merging, turns, nudges.nudge)
        chains = Chains(catalogue, ledger, merging, reopening, parts.store, datasets)
        self._finishing = Finishing(
            catalogue, ledger, merging, chains, receipt_signer, parts.offload, turns, nudges
        )
        self._sweeping = Sweeping(catalogue, ledger, parts.store, turns)
        self._archiving = _archiving(parts, settings, turns)
        self.metrics = _metrics(parts, judging, self._placing)
        access = Access(token, parts.access_keys, parts.clock, parts.issuers)
        services = Services(
            access=access,
            catalogue=catalogue,
            datasets=datasets,
            tasks=Tasks(catalogue, ledger, planner, parts.formats, parts.store, chains),
            claims=Claims(catalogue, ledger, planner, merging, scheduler, parts.products, poison),
            reports=Reports(catalogue, ledger, parts.store, reopening, poison, clock, nudges.nudge),
            finishing=self._finishing,
            reopening=reopening,
            archiving=self._archiving,
            requests=Requests(catalogue, ledger, parts.products, parts.formats, parts.clock),
            assigner=_assigner(parts, scheduler),
            slices=slices,
            products=self._products,
            deliveries=self._deliveries,
            prepared=Prepared(parts.products, catalogue, slices, judging),
            plans=planning.plans,
            foreign=ForeignRanges(catalogue, parts.products, slices, planning.plans),
            edges=planning.edges,
            events=EventFinder(Path(settings.data_dir) / FOLDER, parts.offload),
            notes=Notes(parts.whiteboard, catalogue),
            store=parts.store,
            ids=parts.ids,
            metrics=self.metrics,
            readiness=Readiness(head_checks(catalogue, parts.store, parts.ids), parts.clock),
            receipt_key=receipt_signer.public_key,
            output_bytes_max=settings.output_bytes_max,
            site=settings.site,
            redirects=redirects,
        )
        self.app: Starlette = make_app(services, access, signer, parts.clock)

    def loops(self) -> list[Coroutine[Any, Any, None]]:
        """Return the daemons, to be run beside the API."""
        parts, clock, meter = self._parts, self._parts.clock, self.metrics
        often, seldom = self._settings.expire_every_s, self._settings.sweep_every_s
        life = timedelta(seconds=self._settings.request_id_life_s)
        return [
            daemons.finish_tasks(self._finishing, clock, meter),
            daemons.expire_leases(parts.ledger, self._finishing.nudge, clock, meter, often),
            daemons.forget_lost_edges(
                parts.products, parts.ledger, self._finishing.nudge, clock, meter, often
            ),
            daemons.archive_tasks(self._archiving, clock, meter, seldom),
            daemons.sweep_outputs(self._sweeping, clock, meter, seldom),
            daemons.expire_products(parts.products, clock, meter, seldom),
            daemons.place_products(self._placing, clock, meter, seldom),
            daemons.forget_request_ids(
                parts.catalogue, parts.whiteboard, life, clock, meter, seldom
            ),
        ]

    async def sweep(self) -> int:
        """Sweep the output store now; return how many objects went."""
        return await self._sweeping.sweep()

    def client(self) -> Service:
        """Return a client that speaks to the API in this process."""
        transport = httpx2.ASGITransport(self.app)
        return Service(
            Connection(
                transport,
                self._parts.clock,
                self._parts.ids,
                token=self._token,
                patience_s=self._settings.patience_s,
            )
        )

    async def close(self) -> None:
        """Stop making products and close what is open."""
        await self._deliveries.close()
        await self._products.close()
