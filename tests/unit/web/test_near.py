"""Claims near an edge: work whose input it holds, first or alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from evstream.client import Service
from evstream.domain.errors import NotFoundError, RequestError
from evstream.domain.granularity import Granularity
from evstream.domain.names import LeaseId
from evstream.domain.payload import Payload
from evstream.domain.scheduling import Scheduling
from evstream.head import holdings
from evstream.head.holdings import LOOK_EVERY_S
from evstream.testing.simulator import sample_files
from evstream.testing.virtual_time import VirtualClock
from evstream.wire import messages as m
from evstream.wire import product_messages as pm
from evstream.wire import work_messages as wm
from tests.unit.web.test_api import with_application

FILES = sample_files(files=2, entries=100)
FIRST, SECOND = FILES
EDGE = "lyon"


def with_service(
    work: Callable[[Site], Awaitable[None]], files: Mapping[str, bytes] = FILES
) -> None:
    """Run some work against a service that has a dataset, and knows an edge."""

    async def ask(application: Any) -> None:
        service = application.client()
        await service.add_dataset(m.NewDataset([m.NewFile(pfn) for pfn in files], "user:x"))
        await service.prepared.beat(EDGE, pm.Beat("https://lyon", life_s=600.0))
        await work(Site(service))
        await service.close()

    with_application(ask, files)


class Site:
    """Asks the service as a site's pilots and its edge do."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._leases = 0

    async def submit(self, *globs: str, **scheduling: Any) -> int:
        """Submit a task with ten units in each file."""
        granularity, payload = Granularity(events=10), Payload("cp {input} {output}")
        new = m.NewTask(
            "t",
            payload,
            "user:x",
            branches=list(globs),
            granularity=granularity,
            scheduling=Scheduling(**scheduling),
        )
        return (await self.service.submit(new)).id

    async def claim(self, units: int, near: str | None = EDGE, **only: Any) -> list[str]:
        """Return the files of the units of a claim."""
        return [unit.lfn for unit in (await self.answer(units, near, **only)).units]

    async def answer(self, units: int, near: str | None = EDGE, **only: Any) -> Any:
        self._leases += 1
        request = wm.ClaimRequest("w", units, near=near, **only)
        return await self.service.claim(request, LeaseId(f"lease-{self._leases}"))

    async def prepare(self, lfn: str, start: int, stop: int, *globs: str) -> None:
        """Have the edge hold a product."""
        new = m.NewSlice("user:x", lfn, "", start, stop, list(globs))
        descriptor = (await self.service.describe_slice(new)).descriptor
        held = pm.HeldProduct(descriptor, "e1", 10, "0" * 64)
        await self.service.prepared.register(EDGE, pm.HeldProducts([held]))

    async def copy(self, lfn: str, site: str = EDGE, state: Any = "available") -> None:
        """Have a site hold a copy of a file."""
        copy = pm.NewReplica(lfn, f"https://{site}/{lfn}", site, state)
        await self.service.prepared.add_replicas(pm.NewReplicas("user:x", [copy]))


async def look_again() -> None:
    """Wait until what is known of the edge counts as old."""
    await VirtualClock().sleep(LOOK_EVERY_S)


def test_what_the_edge_holds_comes_first() -> None:
    async def work(site: Site) -> None:
        await site.submit()
        await site.prepare(SECOND, 0, 100)
        assert await site.claim(4) == [SECOND] * 4
        assert await site.claim(1, near=None) == [FIRST]
        # A claim holds what is near, or, where nothing is left there, any.
        assert await site.claim(9) == [SECOND] * 6
        assert await site.claim(2) == [FIRST] * 2

    with_service(work)


def test_nothing_else_comes_if_that_is_asked() -> None:
    async def work(site: Site) -> None:
        await site.submit()
        assert await site.claim(3, near_only=True) == []
        await site.copy(SECOND)
        await look_again()
        assert await site.claim(20, near_only=True) == [SECOND] * 10
        answer = await site.answer(5, near_only=True)
        assert (answer.units, answer.active_tasks) == ([], 1)
        assert await site.claim(20) == [FIRST] * 10

    with_service(work)


def test_a_repeated_claim_gives_what_it_gave() -> None:
    async def work(site: Site) -> None:
        await site.submit()
        await site.prepare(SECOND, 0, 100)
        request = wm.ClaimRequest("w", 3, near=EDGE)
        units = (await site.service.claim(request, LeaseId("l"))).units
        assert [unit.lfn for unit in units] == [SECOND] * 3
        assert (await site.service.claim(request, LeaseId("l"))).units == units

    with_service(work)


def test_the_edge_holds_a_file_by_all_that_the_task_needs_of_it() -> None:
    async def work(site: Site) -> None:
        await site.submit("run", "event")

        async def given() -> list[str]:
            await look_again()
            return await site.claim(1, near_only=True)

        await site.prepare(SECOND, 0, 100, "event")
        assert await given() == [], "not all branches"
        await site.prepare(SECOND, 0, 60, "run", "event")
        assert await given() == [], "not all entries"
        await site.prepare(SECOND, 50, 100)
        assert await given() == [SECOND]

    with_service(work)


def test_copies_count_where_they_can_be_read() -> None:
    async def work(site: Site) -> None:
        await site.submit()
        for name, state in (("tokyo", "available"), (EDGE, "copying"), (EDGE, "bad")):
            await site.copy(SECOND, name, state)
            await look_again()
            assert await site.claim(1, near_only=True) == []
        await site.copy(SECOND)
        await look_again()
        assert await site.claim(1, near_only=True) == [SECOND]

    with_service(work)


def test_a_silent_edge_has_no_products_but_its_sites_copies() -> None:
    async def work(site: Site) -> None:
        await site.submit()
        await site.prepare(FIRST, 0, 100)
        await site.copy(SECOND)
        await VirtualClock().sleep(700)
        assert await site.claim(20, near_only=True) == [SECOND] * 10

    with_service(work)


def test_tasks_have_their_turns_among_what_is_near() -> None:
    async def work(site: Site) -> None:
        low = await site.submit()
        high = await site.submit(priority=5)
        await site.prepare(SECOND, 0, 100)
        units = (await site.answer(12)).units
        assert [(unit.task, unit.lfn) for unit in units] == [
            *[(high, SECOND)] * 10,
            *[(low, SECOND)] * 2,
        ]
        # What is near of a task that comes later goes before what is not of the first.
        assert {unit.task for unit in (await site.answer(20)).units} == {low}
        assert {unit.task for unit in (await site.answer(3)).units} == {high}

    with_service(work)


def test_one_task_alone_may_be_asked_for() -> None:
    async def work(site: Site) -> None:
        first, second = await site.submit(), await site.submit()
        await site.prepare(SECOND, 0, 100)
        units = (await site.answer(3, task=second)).units
        assert [(unit.task, unit.lfn) for unit in units] == [(second, SECOND)] * 3
        assert {unit.task for unit in (await site.answer(3)).units} == {first}

    with_service(work)


def test_units_of_several_ranges_are_near_too() -> None:
    async def work(site: Site) -> None:
        timed = m.NewTask(
            "t", Payload("cp {input} {output}"), "user:x", granularity=Granularity(seconds=1.0)
        )
        await site.service.submit(timed)
        await site.prepare(SECOND, 0, 100)
        assert set(await site.claim(1)) == {SECOND}

    with_service(work)


def test_more_files_than_a_look_keeps_are_all_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look begins at the first file that still has work, and ends when it has enough."""
    monkeypatch.setattr(holdings, "CHUNKS_AT_ONCE", 2)
    monkeypatch.setattr(holdings, "CHUNKS_KEPT_MAX", 3)
    files = sample_files(files=9, entries=10)
    near = list(files)[1:8]

    async def work(site: Site) -> None:
        await site.submit()
        for pfn in near:
            await site.copy(pfn)
        given = []
        while some := await site.claim(9, near_only=True):
            given.append(some)
            await look_again()
        assert given == [near[:3], near[3:6], near[6:]]

    with_service(work, files)


@pytest.mark.parametrize("near_only", [False, True])
def test_an_edge_that_is_not_registered_is_told(near_only: bool) -> None:
    async def work(site: Site) -> None:
        with pytest.raises(NotFoundError, match="there is no edge tokyo"):
            await site.claim(1, "tokyo", near_only=near_only)
        await site.service.prepared.remove_edge(EDGE)
        await look_again()
        with pytest.raises(NotFoundError):
            await site.claim(1, near_only=near_only)

    with_service(work)


def test_what_cannot_be_near_is_refused() -> None:
    async def work(site: Site) -> None:
        with pytest.raises(RequestError, match="no edge is named"):
            await site.claim(1, None, near_only=True)
        for name in ("", "a b", "x" * 101):
            with pytest.raises(RequestError):
                await site.claim(1, name)

    with_service(work)
