"""What must hold of edges after every step, whatever happens to them."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import httpx2

from evstream.adapters.formats import KnownFormats
from evstream.adapters.offload import InPlace
from evstream.adapters.source.memory import MemoryOpener
from evstream.assembly.edge import EdgeApplication
from evstream.client import Connection, Service
from evstream.client.download import Fits
from evstream.client.transfers import TRANSFERS_MAX
from evstream.domain.dataset import Fingerprint, SourceFile
from evstream.domain.descriptor import Descriptor
from evstream.domain.errors import DataError, NotFoundError
from evstream.domain.lanes import Lane
from evstream.domain.names import Lfn, Pfn
from evstream.domain.products import Edge
from evstream.edge import Products
from evstream.edge.products import Identity
from evstream.edge.sources import Sources
from evstream.head.datasets import describe
from evstream.ports import ProductCatalogue
from evstream.testing.virtual_time import VirtualClock
from evstream.wire.messages import DeliveryPlan, NewFile

KNOWS_S = 1.5
"""Heads look at their edges once in a second."""
_SIGNED = re.compile(r"https://(edge-\d+)\.example/v1/products/")


class Watched(Protocol):
    """An edge, as the checks see it."""

    name: str
    lies: bool
    application: EdgeApplication | None


class EdgeChecks:
    """Notes each rule that was broken; `raise_first` raises."""

    def __init__(
        self,
        edges: Sequence[Watched],
        clock: VirtualClock,
        products: Callable[[], ProductCatalogue],
    ) -> None:
        self._edges = edges
        self._clock = clock
        self._products = products
        self._refused_since: dict[str, float] = {}
        self._broken: list[str] = []
        self._quarantined: set[str] = set()
        self._lying = {edge.name for edge in edges if edge.lies}
        self.plans = 0

    @property
    def quarantined(self) -> frozenset[str]:
        """Names of the edges that were put in quarantine."""
        return frozenset(self._quarantined)

    def raise_first(self) -> None:
        """Raise `AssertionError` if a rule was broken."""
        assert not self._broken, self._broken

    async def look(self) -> None:
        """See which edges nobody may be sent to, after a step of the head."""
        moment, now = self._clock.now(), self._clock.monotonic()
        for edge in await self._products().edges():
            if edge.state == "quarantined":
                self._quarantined.add(edge.name)
                if edge.name not in self._lying:
                    self._broken.append(f"{edge.name} is in quarantine, and never lied")
            if refused_for(edge, moment):
                self._refused_since.setdefault(edge.name, now)
            else:
                self._refused_since.pop(edge.name, None)
        self.raise_first()

    def answered(self, response: httpx2.Response) -> None:
        """Look at what a head has answered: whom it sends where."""
        now = self._clock.monotonic()
        told = response.text + " ".join(response.headers.get_list("location"))
        for name in set(_SIGNED.findall(told)):
            self.plans += 1
            since = self._refused_since.get(name, now)
            if now - since > KNOWS_S:
                self._broken.append(f"{name} is in a plan though refused since {since:.1f} s")

    def watched(self, edge: Watched, inner: httpx2.AsyncBaseTransport) -> httpx2.AsyncBaseTransport:
        """Return a way to an edge on which its answers are looked at."""
        return _WatchedTransport(self, edge, inner)

    def served(self, edge: Watched, state: str, response: httpx2.Response) -> None:
        """Look at an edge after it has answered."""
        application = edge.application
        if application is None:
            return
        if state in ("quarantined", "maintenance") and response.status_code in (200, 206):
            self._broken.append(f"{edge.name} serves though it is in {state}")
        rules = application.lanes.rules
        lanes = application.lanes.states()
        making = sum(one.making for one in lanes)
        if making > rules.at_once_max:
            self._broken.append(f"{edge.name} makes {making}, more than {rules.at_once_max}")
        for one in lanes:
            depth = rules.depth if one.lane is Lane.ON_DEMAND else rules.waiting_max
            if one.waiting > depth:
                self._broken.append(f"{edge.name}: {one.waiting} wait in lane {one.lane.value}")
        full = response.status_code == 503 and "overload" in response.text
        if full and not response.headers.get("Retry-After"):
            self._broken.append(f"{edge.name} is full and does not say until when")

    async def agreed(self) -> None:
        """Compare what the head believes of each edge with what it has.

        What nobody has asked for since a restart is no news yet: the head may know less.
        """
        books = self._products()
        for edge in self._edges:
            if edge.application is None:
                continue
            cache = edge.application.cache
            kept = {one.name for one in cache.names()}
            held, after = set(), 0
            while rows := await books.held_at(edge.name, after, 500):
                held |= {Identity.of(key, encoder).name for _, key, encoder in rows}
                after = rows[-1][0]
            assert held <= kept, f"{edge.name} has not got {sorted(held - kept)}"
            untold = edge.application.telling.known & (kept - held)
            if edge.application.joining.state != "quarantined":
                assert not untold, f"{edge.name} did not tell of {sorted(untold)}"


def refused_for(edge: Edge, moment: object) -> str:
    """Return why nobody may be sent to an edge; nothing if it may be."""
    if edge.alive_until is not None and edge.alive_until <= moment:  # type: ignore[operator]
        return "silent"
    return "" if edge.state in ("serving", "draining") else edge.state


class _WatchedTransport(httpx2.AsyncBaseTransport):
    def __init__(self, checks: EdgeChecks, edge: Watched, inner: httpx2.AsyncBaseTransport) -> None:
        self._checks = checks
        self._edge = edge
        self._inner = inner

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        application = self._edge.application
        state = application.joining.state if application is not None else ""
        response = await self._inner.handle_async_request(request)
        await response.aread()
        self._checks.served(self._edge, state, response)
        return response


class RightBytes:
    """Knows what each product has to be: made from the sources, by nobody's edge.

    Parameters
    ----------
    files : mapping of str to bytes
        Sources by name, and outputs that tasks in a chain read: more may come later.

    Attributes
    ----------
    wrong : list of str
        Keys of products of which other bytes were taken.
    despite : list of str
        Of those, where the plan told the right digest.
    """

    def __init__(self, files: Mapping[str, bytes], clock: VirtualClock) -> None:
        self._files = files
        self._opener = MemoryOpener(files)
        self._known: dict[str, SourceFile] = {}
        self._seen: set[str] = set()
        self._sha256: dict[str, str] = {}
        self.wrong: list[str] = []
        self.despite: list[str] = []
        self._products = Products(
            self._file, Sources(self._opener, KnownFormats(), now=clock.monotonic), InPlace()
        )

    async def _file(self, fingerprint: Fingerprint) -> SourceFile:
        self._look_at_new_files()
        # What was written again is as it was; what was taken back has gone.
        for name, file in self._known.items():
            if file.fingerprint == fingerprint and name in self._files:
                return file
        raise NotFoundError(f"no file of the simulation is {fingerprint}")

    def _look_at_new_files(self) -> None:
        """Learn what the outputs are that were written since; a chain's next task reads them."""
        for name in sorted(set(self._files) - self._seen):
            self._seen.add(name)
            with contextlib.suppress(DataError), self._opener.open(name) as source:
                known, index = KnownFormats().inspect(source)
                file = describe(NewFile(Pfn(name)), Lfn(name), known.name, index)
                self._known[name] = file

    async def check(self, plan: DeliveryPlan, path: Path) -> None:
        """Compare what was fetched for a plan; note it if these are other bytes."""
        if plan.key not in self._sha256:
            product = await self._products.product(Descriptor.from_wire(plan.descriptor))
            digest = hashlib.sha256()
            async for piece in self._products.read(product, 0, product.size):
                digest.update(piece)
            self._sha256[plan.key] = digest.hexdigest()
        if _sha256(path) != self._sha256[plan.key]:
            self.wrong.append(plan.key)
            if plan.sha256 == self._sha256[plan.key]:
                self.despite.append(plan.key)

    async def close(self) -> None:
        """Close the sources."""
        await self._products.close()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class CheckedService(Service):
    """A client whose products are compared with the right ones."""

    def __init__(self, connection: Connection, right: RightBytes) -> None:
        super().__init__(connection)
        self._right = right

    async def fetch_product(
        self,
        plan: DeliveryPlan,
        path: Path,
        bytes_max: int | None = None,
        fits: Fits | None = None,
        rounds: int = TRANSFERS_MAX,
    ) -> Counter[str]:
        """Fetch a product, and compare it."""
        received = await super().fetch_product(plan, path, bytes_max, fits, rounds)
        await self._right.check(plan, path)
        return received
