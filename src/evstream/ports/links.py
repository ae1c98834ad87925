"""Sites, and what was measured of the links between them and edges."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from evstream.domain.sites import Link, LinkName, Measured, Site


class Links(Protocol):
    """What all heads know of sites and links. Changes are durable when they return."""

    async def add_site(self, site: Site) -> None:
        """Enter a site; one of the same name is replaced."""
        ...

    async def remove_site(self, name: str) -> None:
        """Take a site out; what was measured of its links fades by itself.

        Raises
        ------
        NotFoundError
        """
        ...

    async def sites(self) -> list[Site]:
        """Return all sites by name."""
        ...

    async def add_measured(self, measured: Sequence[tuple[LinkName, Measured]]) -> None:
        """Add to what is known of links; what is old counts less, and goes in the end."""
        ...

    async def links(self) -> list[Link]:
        """Return what is known of all links, by name, each as of its last measurement."""
        ...

    async def now(self) -> datetime:
        """Return the database's time, aware, in UTC."""
        ...
