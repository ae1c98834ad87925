"""Plans, sites, links and foreign ranges as clients see them: a method per route."""

from __future__ import annotations

from urllib.parse import quote

from evstream.client.connection import Connection
from evstream.domain.sites import Site
from evstream.wire import delivery_messages as m
from evstream.wire.product_messages import Changed


class Plans:
    """Where products are had, and from where they come fast.

    Parameters
    ----------
    connection : Connection
        The service's, which closes it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def plan(self, new: m.NewPlan) -> list[m.PlanView]:
        """Return where products are had, best first."""
        return (await self._connection.call("POST", "/v1/plans", m.PlansAnswer, new)).plans

    async def foreign_ranges(self, asked: m.ForeignRequest) -> list[m.ForeignAnswer]:
        """Return what delivers ranges of another workload manager, best match first."""
        path = "/v1/foreign-ranges"
        return (await self._connection.call("POST", path, m.ForeignAnswers, asked)).ranges

    async def tell_links(self, site: str) -> int:
        """Tell what this client saw, from a site, of the edges that it fetched from."""
        seen = self._connection.meter.take(site)
        return await self.note_links(m.SeenLinks(seen)) if seen else 0

    async def note_links(self, seen: m.SeenLinks) -> int:
        """Tell what was measured; return how many links were of edges that are known."""
        return (await self._connection.call("POST", "/v1/links", Changed, seen)).changed

    async def links(self) -> list[m.LinkView]:
        """Return what is known of links."""
        return await self._connection.pages("/v1/links", m.LinkView)

    async def add_site(self, name: str, site: m.NewSite) -> Site:
        """Say where a site is."""
        return await self._connection.call("PUT", f"/v1/sites/{quote(name, '')}", Site, site)

    async def remove_site(self, name: str) -> None:
        """Take a site out."""
        await self._connection.call("DELETE", f"/v1/sites/{quote(name, '')}", Changed)

    async def sites(self) -> list[Site]:
        """Return all sites."""
        return await self._connection.pages("/v1/sites", Site)
