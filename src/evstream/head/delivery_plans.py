"""Where products are had, told to people and to other software: plans with their reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from evstream.domain.brokering import Choice
from evstream.domain.dataset import SourceFile
from evstream.domain.descriptor import Descriptor
from evstream.domain.errors import NotFoundError, RequestError
from evstream.domain.lanes import Asker
from evstream.domain.names import ProductKey
from evstream.domain.sites import Map, Measured, Site
from evstream.head.brokering import Brokering, Known, about_bytes
from evstream.head.plans import Planner
from evstream.head.slices import Slices
from evstream.ports import Catalogue, Links
from evstream.wire import delivery_messages as m

SUFFIXES = {"root": ".root", "parquet": ".parquet", "hdf5": ".h5", "lhe": ".lhe"}


class DeliveryPlans:
    """Plans deliveries, and knows sites and links."""

    def __init__(
        self,
        catalogue: Catalogue,
        links: Links,
        brokering: Brokering,
        planner: Planner,
        slices: Slices,
    ) -> None:
        self._catalogue = catalogue
        self._links = links
        self._brokering = brokering
        self._planner = planner
        self._slices = slices

    async def plan(self, new: m.NewPlan) -> list[m.PlanView]:
        """Return where products are had, best first.

        Raises
        ------
        NotFoundError, RequestError
            A slice names nothing that there is; a descriptor cannot be read; nothing is asked for.
        """
        if bool(new.slices) == bool(new.descriptors):
            raise RequestError("nothing to plan", hint="give either slices or descriptors")
        wanted = [await self._slices.describe(one) for one in new.slices]
        wanted += [Descriptor.from_wire(plain) for plain in new.descriptors]
        for one in wanted:
            if not one.sources or not all(source.entries for source in one.sources):
                raise RequestError("a descriptor holds no entries", hint="nothing is made of it")
        return await self.plans(wanted, new.site, explain=new.explain)

    async def plans(
        self, wanted: Sequence[Descriptor], site: str = "", *, explain: bool = False
    ) -> list[m.PlanView]:
        """Return where products are had by a client at a site, best first.

        Parameters
        ----------
        explain : bool
            Tell of every edge why it stands where it does.
        """
        if not wanted:
            return []
        await self._brokering.look()
        now = await self._catalogue.now()
        files = [await self._file(one) for one in wanted]
        sizes = {one.key: about_bytes(one, file) for one, file in zip(wanted, files, strict=True)}
        known = await self._brokering.known(wanted, sizes)
        views = []
        for one, file in zip(wanted, files, strict=True):
            choices: list[Choice] = []
            if explain:
                choices = self._brokering.explain(one.key, known[one.key], site)
            urls = self._planner.deliver(one, now, file, Asker(site=site), known[one.key]).urls
            endpoints = [self._endpoint(url) for url in urls]
            views.append(_view(one, file, known[one.key], endpoints, choices))
        return views

    async def _file(self, wanted: Descriptor) -> SourceFile | None:
        """Return the file that a product is cut from; None of one that no dataset has."""
        try:
            return await self._catalogue.file(wanted.sources[0].fingerprint)
        except NotFoundError:
            return None

    def _endpoint(self, url: str) -> m.Endpoint:
        edge = self._brokering.edge_at(url)
        site = Site("") if edge is None else self._brokering.site_of(edge)
        return m.Endpoint(url, site.name, site.country)

    async def add_site(self, name: str, new: m.NewSite) -> Site:
        """Enter where a site is.

        Raises
        ------
        RequestError
            It has half a place.
        """
        site = Site(name, new.country, new.latitude, new.longitude)
        await self._links.add_site(site)
        return site

    async def remove_site(self, name: str) -> None:
        """Take a site out.

        Raises
        ------
        NotFoundError
        """
        await self._links.remove_site(name)

    async def sites(self) -> list[Site]:
        """Return all sites."""
        return await self._links.sites()

    async def note_links(self, seen: m.SeenLinks) -> int:
        """Take what somebody measured; return how many links were of edges that are known."""
        await self._brokering.look()
        known = [
            ((one.site, edge, one.direction), _measured(one))
            for one in seen.links
            if (edge := self._brokering.edge_at(one.edge)) is not None
        ]
        self._brokering.measured(known)
        return len(known)

    async def links(self) -> list[m.LinkView]:
        """Return links as they are thought to be now."""
        now = await self._links.now()
        links, sites = await self._links.links(), await self._links.sites()
        await self._brokering.look()
        known = Map(sites, links, now)
        views = []
        for link in links:
            at = self._brokering.site_of(link.edge).name
            pace = known.pace(link.site, link.edge, at, link.direction)
            seen = link.measured.after((now - link.at) / timedelta(seconds=1))
            views.append(
                m.LinkView(*link.name, pace.trip_s, pace.bytes_per_s, seen.trips, seen.seconds)
            )
        return views


def _measured(one: m.SeenLink) -> Measured:
    return Measured(one.trips, one.trips_s, one.bytes, one.seconds)


def _view(
    wanted: Descriptor,
    file: SourceFile | None,
    known: Known,
    endpoints: list[m.Endpoint],
    choices: Sequence[Choice],
) -> m.PlanView:
    made = known.made.product if known.made is not None else None
    return m.PlanView(
        wanted.key,
        product_name(wanted, file),
        wanted.to_wire(),
        endpoints,
        made.size if made else 0,
        made.sha256 if made else "",
        known.size,
        [
            m.ChoiceView(**_terms(choice), seconds=choice.seconds, reason=choice.reason)
            for choice in choices
        ],
    )


def _terms(choice: Choice) -> dict[str, Any]:
    terms = asdict(choice)
    del terms["source_site"]
    return terms


def product_name(wanted: Descriptor, file: SourceFile | None) -> str:
    """Return a file name for a product: its source's, its entries and a little of its key."""
    (start, *_), (*_, stop) = wanted.sources[0].entries[0], wanted.sources[-1].entries[-1]
    stem = file.lfn.rpartition("/")[2].partition(".")[0] if file is not None else "product"
    suffix = SUFFIXES.get(wanted.format, f".{wanted.format}")
    return f"{stem}.{start}-{stop}.{key_start(wanted.key)}{suffix}"


def key_start(key: ProductKey) -> str:
    """Return enough of a key to tell products of one file from each other."""
    return key[:12]
