"""The `Links` port on dictionaries: what it means, in the plainest form."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from evstream.domain.errors import NotFoundError
from evstream.domain.sites import LINK_KEPT_S, Link, LinkName, Measured, Site
from evstream.ports.clock import Clock


class MemoryLinks:
    """Keeps sites and links by name."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sites: dict[str, Site] = {}
        self._links: dict[LinkName, Link] = {}

    async def add_site(self, site: Site) -> None:
        """Enter a site."""
        self._sites[site.name] = site

    async def remove_site(self, name: str) -> None:
        """Take a site out."""
        if self._sites.pop(name, None) is None:
            raise NotFoundError(f"there is no site {name}", hint="see 'evstream site list'")

    async def sites(self) -> list[Site]:
        """Return all sites by name."""
        return [site for _, site in sorted(self._sites.items())]

    async def add_measured(self, measured: Sequence[tuple[LinkName, Measured]]) -> None:
        """Add to what is known of links."""
        now = self._clock.now()
        for name, more in measured:
            known = self._links.get(name) or Link(*name, Measured(), now)
            self._links[name] = known.with_more(more, now)
        self._links = {
            name: link
            for name, link in self._links.items()
            if (now - link.at).total_seconds() < LINK_KEPT_S
        }

    async def links(self) -> list[Link]:
        """Return what is known of all links, by name."""
        return [link for _, link in sorted(self._links.items())]

    async def now(self) -> datetime:
        """Return the time."""
        return self._clock.now()
