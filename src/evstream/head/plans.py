"""Delivery plans: where the bytes of a unit of work are, and where its output goes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from evstream.domain.brokering import Choice
from evstream.domain.dataset import Fingerprint, SourceFile
from evstream.domain.descriptor import Descriptor
from evstream.domain.lanes import Asker
from evstream.domain.names import Pfn, ProductKey
from evstream.head.brokering import Brokering, Known, about_bytes
from evstream.head.edge_keys import EdgeKeys
from evstream.ports import OutputStore
from evstream.wire.messages import DeliveryPlan
from evstream.wire.signed_urls import UrlSigner, descriptor_query, packed_asker, packed_source

URL_MARGIN = timedelta(hours=1)
"""URLs outlive the lease by this, since a lease may be renewed many times."""
SOURCES_KEPT_MAX = 10_000
NOBODY = Asker()


class Planner:
    """Makes signed URLs for products and for the output store.

    Parameters
    ----------
    signer : UrlSigner
        Signs what this service serves itself.
    brokering : Brokering
        Names edges for products.
    keys : EdgeKeys
        Each edge checks with its own.
    store : OutputStore, optional
        Says where pilots write outputs by themselves, if they may.
    """

    def __init__(
        self,
        signer: UrlSigner,
        brokering: Brokering,
        keys: EdgeKeys,
        url_life: timedelta = timedelta(days=1),
        store: OutputStore | None = None,
    ) -> None:
        self._signer = signer
        self._brokering = brokering
        self._keys = keys
        self._url_life = url_life
        self._store = store
        self._sources: dict[tuple[Fingerprint, tuple[Pfn, ...]], str] = {}

    async def look(self) -> None:
        """Look which edges there are now, unless that was done a moment ago."""
        await self._brokering.look()

    @property
    def names_edges(self) -> bool:
        """Whether URLs of edges are in plans: there are some."""
        return not self._brokering.alone

    async def known(
        self, wanted: Sequence[tuple[Descriptor, SourceFile | None]]
    ) -> dict[ProductKey, Known]:
        """Return what is known of products, cut from these files; nothing without edges."""
        if self._brokering.alone or not wanted:
            return {}
        sizes = {one.key: about_bytes(one, file) for one, file in wanted}
        return await self._brokering.known([one for one, _ in wanted], sizes)

    def deliver(
        self,
        descriptor: Descriptor,
        now: datetime,
        file: SourceFile | None = None,
        asker: Asker = NOBODY,
        known: Known | None = None,
    ) -> DeliveryPlan:
        """Return key, descriptor and endpoints of a product.

        Parameters
        ----------
        file : SourceFile, optional
            The file that it is cut from: URLs of edges say where it is, so that an edge
            that has lost the head can make the product.
        asker : Asker
            For whom it is. What has to be made is made by it; what it is does not depend on it.
        known : Known, optional
            What is known of the product.
        """
        choices = self._choices(descriptor, file, asker, known)
        urls = self._urls(choices, descriptor, now, file, asker)
        held = [place for place, choice in enumerate(choices) if choice.held]
        path, until = _path(descriptor), self._until(now)
        # Where all of them fail, whoever serves this plan knows better by then.
        extra, bound = descriptor_query(descriptor), _bound(asker)
        urls.append(self._signer.sign("GET", path, now, until, bound, extra))
        key, plain = descriptor.key, descriptor.to_wire()
        if known is None or known.made is None:
            return DeliveryPlan(key, plain, urls, held=held)
        made = known.made.product
        etag = f'"{key}-{made.encoder_id}"'
        return DeliveryPlan(key, plain, urls, etag, made.sha256, held)

    def edge_urls(
        self,
        descriptor: Descriptor,
        now: datetime,
        file: SourceFile | None = None,
        asker: Asker = NOBODY,
        known: Known | None = None,
    ) -> list[str]:
        """Return where edges serve a product, the best first; nowhere if edges have no source."""
        choices = self._choices(descriptor, file, asker, known)
        return self._urls(choices, descriptor, now, file, asker)

    def _choices(
        self, descriptor: Descriptor, file: SourceFile | None, asker: Asker, known: Known | None
    ) -> list[Choice]:
        if file is not None and file.origin is not None:
            return []
        known = known or Known(about_bytes(descriptor, file))
        return self._brokering.choose(descriptor.key, known, asker.site)

    def _urls(
        self,
        choices: list[Choice],
        descriptor: Descriptor,
        now: datetime,
        file: SourceFile | None,
        asker: Asker,
    ) -> list[str]:
        if not choices:
            return []
        path, until, extra = _path(descriptor), self._until(now), descriptor_query(descriptor)
        bound = _bound(asker) | ({} if file is None else {"f": self._packed(file)})
        edges = [self._brokering.edge(choice.edge) for choice in choices]
        return [self._keys.url(one, path, now, until, bound=bound, extra=extra) for one in edges]

    def _packed(self, file: SourceFile) -> str:
        key = (file.fingerprint, file.pfns)
        if (known := self._sources.get(key)) is None:
            if len(self._sources) >= SOURCES_KEPT_MAX:
                self._sources.clear()
            known = self._sources[key] = packed_source(file)
        return known

    def _until(self, now: datetime) -> datetime:
        return now + self._url_life + URL_MARGIN

    def fetch_output(self, name: str, now: datetime) -> str:
        """Return a URL to read an object of the output store."""
        return self._signer.sign("GET", f"/v1/outputs/{name}", now, self._until(now))

    def fetch_sandbox(self, sha256: str, now: datetime) -> str:
        """Return a URL to read a payload's sandbox; empty if it has none."""
        if not sha256:
            return ""
        path = f"/v1/sandboxes/{sha256}"
        return self._signer.sign("GET", path, now, self._until(now))

    def store_output(self, name: str, now: datetime) -> str:
        """Return a URL to write an object of the output store."""
        return self._signer.sign("PUT", f"/v1/outputs/{name}", now, self._until(now))

    def places(self, name: str) -> list[str]:
        """Return where a pilot may write an object of the output store past this service."""
        if self._store is None:
            return []
        return list(self._store.places(name, self._url_life + URL_MARGIN))


def _bound(asker: Asker) -> dict[str, str]:
    packed = packed_asker(asker)
    return {"w": packed} if packed else {}


def _path(descriptor: Descriptor) -> str:
    return f"/v1/products/{descriptor.key}"
