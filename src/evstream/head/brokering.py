"""Which edges products are asked for at: what the head knows, put before the rules."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from evstream.domain.brokering import Broker, Choice, EdgeView, Wanted
from evstream.domain.dataset import Fingerprint, SourceFile
from evstream.domain.descriptor import Descriptor
from evstream.domain.lanes import Lane
from evstream.domain.names import ProductKey
from evstream.domain.products import Edge, FoundProduct
from evstream.domain.sites import Link, LinkName, Map, Measured, Site
from evstream.ports import Links, ProductCatalogue

LOOK_EVERY_S = 1.0
WRITE_EVERY_S = 10.0
"""What heads measured or were told is written so often: nobody waits for a link's row."""
LINKS_WAITING_MAX = 10_000
SENT_HALF_LIFE_S = 10.0
"""By then an edge has said itself how busy it is."""
PROMISE_S = 60.0
PROMISES_MAX = 100_000
HOT_REQUESTS = 64.0
"""A product that is asked for so often within about a minute gets another home, and so on."""
SPREAD_MAX = 8


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a product and its source.

    Attributes
    ----------
    size : int
        Bytes; as made, or about.
    made : FoundProduct or None
        The product, where it is there.
    """

    size: int
    made: FoundProduct | None = None
    replica_sites: tuple[str, ...] = ()

    @property
    def held(self) -> tuple[str, ...]:
        """Edges that have it."""
        return () if self.made is None else tuple(edge.name for edge in self.made.places)


@dataclass(slots=True)
class _Promise:
    """Where clients of a site were sent for a product, and how often lately."""

    edges: tuple[str, ...]
    requests: float
    at: float

    def requests_at(self, now: float) -> float:
        """Return what requests count for at a time."""
        return self.requests * math.exp2((self.at - now) / PROMISE_S)


class Brokering:
    """Knows edges, links and sites as they were a moment ago, and chooses among them.

    `look` asks the catalogue; all else answers at once, since it runs for each unit of a claim.
    """

    def __init__(self, products: ProductCatalogue, links: Links) -> None:
        self._products = products
        self._links = links
        self._broker = Broker([])
        self._edges: dict[str, Edge] = {}
        self._sites: dict[str, Site] = {}
        self._waiting: dict[LinkName, Measured] = {}
        self._sent: dict[str, float] = {}
        self._sent_at = 0.0
        self._promises: OrderedDict[tuple[str, str], _Promise] = OrderedDict()
        self._edges_due = self._links_due = float("-inf")
        self._known_links: list[Link] = []
        self._looking = asyncio.Lock()

    async def look(self) -> None:
        """Look what there is now, unless that was done a moment ago."""
        time = asyncio.get_running_loop().time
        if time() < self._edges_due:
            return
        async with self._looking:
            if (now := time()) < self._edges_due:
                return
            if now >= self._links_due:
                await self._exchange_links()
                self._links_due = time() + WRITE_EVERY_S
            moment = await self._links.now()
            edges = [edge for edge in await self._products.edges() if edge.kind == "edge"]
            self._edges = {edge.name: edge for edge in edges}
            known = Map(self._sites.values(), self._known_links, moment)
            self._broker = Broker([view_of(edge, moment) for edge in edges], known)
            self._edges_due = time() + LOOK_EVERY_S

    async def _exchange_links(self) -> None:
        """Write what was measured here, and read what all heads know."""
        if waiting := dict(self._waiting):
            self._waiting.clear()
            try:
                await self._links.add_measured(list(waiting.items()))
            except BaseException:
                self.measured(waiting.items())
                raise
        self._sites = {site.name: site for site in await self._links.sites()}
        self._known_links = await self._links.links()

    @property
    def alone(self) -> bool:
        """Whether no edge is there to choose."""
        return not self._broker.edges

    def edge(self, name: str) -> Edge:
        """Return an edge that was chosen."""
        return self._edges[name]

    def edge_at(self, place: str) -> str | None:
        """Return the name of an edge by its name, or by the URL of anything there."""
        if place in self._edges:
            return place
        for name, edge in self._edges.items():
            url = edge.url.rstrip("/")
            if place == url or place.startswith(f"{url}/"):
                return name
        return None

    def site(self, name: str) -> Site:
        """Return what is known of a site."""
        return self._sites.get(name) or Site(name)

    def site_of(self, edge: str) -> Site:
        """Return the site of an edge."""
        view = self._broker.edges.get(edge)
        return self.site(view.site if view else "")

    def measured(self, seen: Iterable[tuple[LinkName, Measured]]) -> None:
        """Take what somebody saw of links; it is written a moment later, with more of the kind.

        Beyond a number of links nothing new is taken: these are measurements, not records.
        """
        for name, more in seen:
            if name in self._waiting or len(self._waiting) < LINKS_WAITING_MAX:
                self._waiting[name] = self._waiting.get(name, Measured()) + more

    async def known(
        self, wanted: Sequence[Descriptor], sizes: Mapping[ProductKey, int]
    ) -> dict[ProductKey, Known]:
        """Return what there is of products and of their sources, by key.

        Parameters
        ----------
        sizes : mapping
            About how many bytes each has, by key.
        """
        plain = [one for one in wanted if _has_one_interval(one)]
        made: dict[ProductKey, FoundProduct] = {}
        for one, found in zip(plain, await self._products.best_matches(plain), strict=True):
            if found is not None and found.product.descriptor.key == one.key:
                made[one.key] = found
        for one in wanted:
            if not _has_one_interval(one):
                several = [f for f in await self._products.products_of(one.key) if f.places]
                made |= {one.key: several[0]} if several else {}
        copies = await self.replica_sites(one.sources[0].fingerprint for one in wanted)
        return {
            one.key: Known(
                made[one.key].product.size if one.key in made else sizes.get(one.key, 0),
                made.get(one.key),
                copies.get(one.sources[0].fingerprint, ()),
            )
            for one in wanted
        }

    async def replica_sites(
        self, files: Iterable[Fingerprint]
    ) -> dict[Fingerprint, tuple[str, ...]]:
        """Return at which sites there are copies of files that can be read."""
        sites: dict[Fingerprint, dict[str, None]] = {}
        for one in await self._products.replicas(list(dict.fromkeys(files))):
            if one.state == "available" and one.site:
                sites.setdefault(one.fingerprint, {})[one.site] = None
        return {file: tuple(names) for file, names in sites.items()}

    def choose(self, key: ProductKey, known: Known, site: str = "") -> list[Choice]:
        """Return edges for a product, best first, and remember who was sent where."""
        if self.alone:
            return []
        now = asyncio.get_running_loop().time()
        self._fade(now)
        wanted = self._wanted(key, known, site, now, requests=1.0)
        choices = self._broker.choose(wanted, site, self._sent)
        if choices:
            best = choices[0]
            if not best.held and best.edge not in wanted.promised:
                self._sent[best.edge] = self._sent.get(best.edge, 0.0) + 1.0
            homes = tuple(choice.edge for choice in choices if choice.home)
            requests = self._requests(key, site, now) + 1.0
            self._promises[key, site] = _Promise(homes, requests, now)
            self._promises.move_to_end((key, site))
            if len(self._promises) > PROMISES_MAX:
                self._promises.popitem(last=False)
        return choices

    def explain(self, key: ProductKey, known: Known, site: str = "") -> list[Choice]:
        """Return every edge for a product and why it stands where it does; nothing is noted."""
        now = asyncio.get_running_loop().time()
        self._fade(now)
        return self._broker.explain(self._wanted(key, known, site, now), site, self._sent)

    def _wanted(
        self, key: ProductKey, known: Known, site: str, now: float, requests: float = 0.0
    ) -> Wanted:
        promise = self._promises.get((key, site))
        fresh = promise is not None and now - promise.at < PROMISE_S
        hot = (self._requests(key, site, now) + requests) / HOT_REQUESTS
        return Wanted(
            key,
            known.size,
            known.held,
            promise.edges if promise is not None and fresh else (),
            known.replica_sites,
            spread=min(1 + math.floor(hot), SPREAD_MAX),
        )

    def _requests(self, key: ProductKey, site: str, now: float) -> float:
        promise = self._promises.get((key, site))
        return 0.0 if promise is None else promise.requests_at(now)

    def _fade(self, now: float) -> None:
        """Let what edges were sent count less by and by."""
        if now - self._sent_at >= 1.0:
            left = 2.0 ** ((self._sent_at - now) / SENT_HALF_LIFE_S)
            self._sent = {edge: n * left for edge, n in self._sent.items() if n * left > 0.01}
            self._sent_at = now


def view_of(edge: Edge, now: datetime) -> EdgeView:
    """Return an edge as brokering sees it."""
    status = edge.status
    silent = not edge.beats(now)
    refused = ""
    if silent:
        refused = "silent"
    elif edge.state != "serving":
        refused = edge.state + (f": {edge.reason}" if edge.reason else "")
    elif status.leaving:
        refused = "leaving"
    running = sum(lane.running + lane.waiting for lane in status.lanes.values())
    lane = status.lanes.get(Lane.ON_DEMAND.value)
    queue_s = 0.0
    if lane is not None and lane.makers_max and lane.running >= lane.makers_max:
        queue_s = (lane.waiting + 1) / lane.makers_max * lane.make_s
    return EdgeView(
        edge.name,
        status.site,
        edge.capacity_bytes,
        status.free_bytes,
        queue_s,
        lane.make_s if lane is not None else 0.0,
        float(running),
        refused,
        serves=not silent and edge.state in ("serving", "draining"),
    )


def about_bytes(wanted: Descriptor, file: SourceFile | None) -> int:
    """Return about how many bytes a product has: its entries' share of its source, at most.

    Which branches it has is left out: it takes the source's index to know what they weigh.
    """
    source = wanted.sources[0]
    entries = sum(stop - start for start, stop in source.entries)
    total = 0 if file is None else file.trees.get(str(wanted.parameter("tree", "")), 0)
    return source.fingerprint.size * min(entries, total) // total if total else 0


def _has_one_interval(descriptor: Descriptor) -> bool:
    return len(descriptor.sources) == 1 and len(descriptor.sources[0].entries) == 1
