"""The contract of what keeps sites and links."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import ClassVar

import pytest

from evstream.domain.errors import NotFoundError
from evstream.domain.sites import LINK_HALF_LIFE_S, LINK_KEPT_S, Link, LinkName, Measured, Site
from evstream.ports.links import Links
from evstream.testing.contracts.suite import Suite
from evstream.testing.manual_clock import ManualClock

OpenLinks = Callable[[], AbstractAsyncContextManager[Links]]

OUT: LinkName = ("LYON", "edge-1", "to_site")
BACK: LinkName = ("LYON", "edge-1", "from_site")
SEEN = Measured(2.0, 0.5, 1e6, 4.0)


class LinksContract(Suite):
    """Override `open_links`; each opening gives what was kept before."""

    durable: ClassVar[bool] = True
    """Whether it outlives its closing."""

    @pytest.fixture
    def clock(self) -> ManualClock:
        """Time, which passes when it is told to."""
        return ManualClock()

    @pytest.fixture
    def open_links(self, clock: ManualClock) -> OpenLinks:
        """Open what is tested, on the clock's time."""
        raise NotImplementedError

    async def test_sites_are_listed_by_name(self, open_links: OpenLinks) -> None:
        lyon, cern = Site("LYON", "FR", 45.78, 4.87), Site("CERN")
        async with open_links() as links:
            assert await links.sites() == []
            await links.add_site(lyon)
            await links.add_site(cern)
            assert await links.sites() == [cern, lyon]

    async def test_a_site_that_is_added_again_is_replaced(self, open_links: OpenLinks) -> None:
        async with open_links() as links:
            await links.add_site(Site("LYON", "FR", 45.78, 4.87))
            await links.add_site(Site("LYON", "FR"))
            assert await links.sites() == [Site("LYON", "FR")]

    async def test_a_site_can_be_removed_once(self, open_links: OpenLinks) -> None:
        async with open_links() as links:
            await links.add_site(Site("LYON"))
            await links.remove_site("LYON")
            assert await links.sites() == []
            with pytest.raises(NotFoundError):
                await links.remove_site("LYON")

    async def test_measurements_add_up(self, open_links: OpenLinks, clock: ManualClock) -> None:
        async with open_links() as links:
            await links.add_measured([(OUT, SEEN), (OUT, SEEN), (BACK, SEEN)])
            assert await links.links() == [
                Link(*BACK, SEEN, clock.now()),
                Link(*OUT, SEEN + SEEN, clock.now()),
            ]
            assert await links.now() == clock.now()

    async def test_measurements_fade(self, open_links: OpenLinks, clock: ManualClock) -> None:
        async with open_links() as links:
            await links.add_measured([(OUT, SEEN)])
            clock.advance(LINK_HALF_LIFE_S)
            await links.add_measured([(OUT, SEEN)])
            (link,) = await links.links()
            assert link.measured == Measured(3.0, 0.75, 1.5e6, 6.0)
            assert link.at == clock.now()

    async def test_a_link_that_nobody_measures_is_forgotten(
        self, open_links: OpenLinks, clock: ManualClock
    ) -> None:
        async with open_links() as links:
            await links.add_measured([(OUT, SEEN)])
            clock.advance(LINK_KEPT_S)
            await links.add_measured([(BACK, SEEN)])
            assert [link.name for link in await links.links()] == [BACK]

    async def test_all_of_it_is_kept(self, open_links: OpenLinks) -> None:
        if not self.durable:
            pytest.skip("it keeps nothing")
        async with open_links() as links:
            await links.add_site(Site("LYON", "FR", 45.78, 4.87))
            await links.add_measured([(OUT, SEEN)])
            known = await links.sites(), await links.links()
        async with open_links() as links:
            assert (await links.sites(), await links.links()) == known
