"""Requests to prepare: edges work on them as pilots do on tasks, and lose nothing either."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from evstream.client import Service
from evstream.domain.descriptor import COPY, Descriptor
from evstream.domain.errors import (
    ConflictError,
    DataError,
    NotFoundError,
    RequestError,
    SourceChangedError,
    TransientError,
)
from evstream.domain.granularity import Granularity
from evstream.domain.lanes import Ask, Lane
from evstream.domain.names import LeaseId
from evstream.domain.payload import Payload
from evstream.domain.states import TaskState
from evstream.domain.task import TakenOutputs
from evstream.edge.preparing import Made, Preparing
from evstream.testing.seeded_ids import SeededIds
from evstream.testing.simulator import sample_files
from evstream.testing.virtual_time import VirtualClock
from evstream.wire import messages as m
from evstream.wire import product_messages as pm
from evstream.wire import request_messages as rm
from evstream.wire import work_messages as wm
from tests.unit.web.test_api import DOOR, with_application

FILES = sample_files(files=4, entries=100)
TENS = Granularity(events=10)
DATASET = rm.NewRequest("user:x", granularity=TENS)


class Edge:
    """An edge whose makers take a second of virtual time."""

    def __init__(self, name: str, service: Service, number: int) -> None:
        self.name = name
        self.service = service
        self.made: list[Descriptor] = []
        self.asks: list[Ask] = []
        self.precached = 0
        self.fails: Callable[[Descriptor], Exception | None] = lambda _: None
        self.seconds = 1.0
        clock, ids = VirtualClock(), SeededIds(number)
        self.preparing = Preparing(
            service, self.make, clock, ids, name=name, units=4, register=self.register
        )

    async def register(self, products: pm.HeldProducts) -> None:
        await self.service.prepared.register(self.name, products)

    async def make(self, descriptor: Descriptor, ask: Ask, life_s: float, precache: bool) -> Made:
        self.asks.append(ask)
        self.precached += precache
        await asyncio.sleep(self.seconds)
        if (error := self.fails(descriptor)) is not None:
            raise error
        self.made.append(descriptor)
        return Made("e1", 10, "0" * 64)

    async def beat(self, life_s: float = 1e6) -> None:
        await self.service.prepared.beat(self.name, pm.Beat(f"https://{self.name}", life_s=life_s))

    @asynccontextmanager
    async def working(self) -> Any:
        await self.beat()
        running = asyncio.create_task(self.preparing.run())
        try:
            yield
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def with_service(work: Callable[[Service, Any], Awaitable[None]]) -> None:
    """Run some work against a service that has a dataset."""

    async def ask(application: Any) -> None:
        service = application.client()
        await service.add_dataset(m.NewDataset([m.NewFile(pfn) for pfn in FILES], "user:x"))
        await work(service, application)
        await service.close()

    with_application(ask, FILES)


async def ended(service: Service, number: int) -> rm.RequestView:
    """Wait for a request's end."""
    async for view in service.requests.watch(number):
        last = view
    assert last.state.final
    return last


def test_a_dataset_is_prepared_by_two_edges_each_file_at_one_of_them() -> None:
    async def work(service: Service, _: Any) -> None:
        first, second = Edge("a", service, 1), Edge("b", service, 2)
        async with first.working(), second.working():
            asked = await service.requests.submit(DATASET)
            assert (asked.state, asked.ready, asked.progress.entries) == (
                TaskState.RUNNING,
                0.0,
                400,
            )
            view = await ended(service, asked.id)
        assert (view.state, view.ready, view.reason) == (TaskState.DONE, 1.0, "")
        keys = [one.key for one in first.made + second.made]
        assert len(keys) == len(set(keys)) == 40
        assert {ask.lane for ask in first.asks} == {Lane.PREPARED}
        ready = await service.prepared.ready(pm.ReadyRequest("user:x"))
        for file in ready.files:
            assert sum(b - a for held in file.edges.values() for a, b in held) == 100

    with_service(work)


def test_what_is_prepared_for_a_task_is_what_its_pilots_ask_for() -> None:
    async def work(service: Service, _: Any) -> None:
        new = m.NewTask("t", Payload("cp {input} {output}"), "user:x", granularity=TENS)
        task = await service.submit(new)
        edge = Edge("a", service, 1)
        async with edge.working():
            asked = await service.requests.submit(
                rm.NewRequest(task=task.id, events_max=95, user="ann")
            )
            await ended(service, asked.id)
        # Ninety-five events are ten ranges: no range is prepared in part.
        assert len(edge.made) == 10
        assert {ask.user for ask in edge.asks} == {"ann"}
        claim = await service.claim(wm.ClaimRequest("w", 10), LeaseId("l"))
        wanted = {part.plan.key for unit in claim.units for part in unit.parts}  # type: ignore[union-attr]
        assert wanted == {one.key for one in edge.made}

    with_service(work)


def test_parts_of_a_dataset() -> None:
    async def work(service: Service, _: Any) -> None:
        one, *_ = FILES
        asked = await service.requests.submit(
            rm.NewRequest(
                "user:x",
                granularity=TENS,
                files=["sample-[01]*"],
                entries={one: [(5, 6), (8, 12)]},
                branches=["x"],
            )
        )
        assert (asked.progress.entries, asked.branches) == (120, ["x"])
        for wrong in (
            rm.NewRequest("user:x", files=["no-such*"]),
            rm.NewRequest("user:x", entries={"no-such": [(0, 1)]}),
            rm.NewRequest("user:x", entries={f: [(100, 200)] for f in FILES}),
            rm.NewRequest("user:x", granularity=Granularity(seconds=1)),
            rm.NewRequest(),
            rm.NewRequest("user:x", task=asked.id),
            rm.NewRequest(task=asked.id),
        ):
            with pytest.raises(RequestError):
                await service.requests.submit(wrong)

    with_service(work)


def test_whole_files_are_products_too() -> None:
    async def work(service: Service, _: Any) -> None:
        edge, (one, *_) = Edge("a", service, 1), FILES
        new = rm.NewRequest("user:x", precache="only", entries={one: [(5, 6)]}, events_max=150)
        async with edge.working():
            asked = await service.requests.submit(new)
            # Whatever is wanted of a file, all of it is copied.
            assert (asked.precache, asked.progress.entries, asked.progress.ranges) == (
                "only",
                200,
                2,
            )
            assert (await ended(service, asked.id)).state is TaskState.DONE
        assert {made.recipe for made in edge.made} == {COPY}
        assert len({made.sources[0].fingerprint for made in edge.made}) == len(edge.made) == 2
        for wrong in (
            rm.NewRequest("user:x", precache="only", granularity=TENS),
            rm.NewRequest("user:x", precache="only", branches=["x"]),
        ):
            with pytest.raises(RequestError, match="whole files have all"):
                await service.requests.submit(wrong)

    with_service(work)


def test_files_are_copied_before_their_products() -> None:
    async def work(service: Service, _: Any) -> None:
        edge = Edge("a", service, 1)
        async with edge.working():
            asked = await service.requests.submit(
                rm.NewRequest("user:x", granularity=TENS, precache="first")
            )
            assert (await ended(service, asked.id)).state is TaskState.DONE
        assert edge.precached == len(edge.made) == 40

    with_service(work)


def test_pilots_see_nothing_of_requests_nor_edges_of_tasks() -> None:
    async def work(service: Service, _: Any) -> None:
        edge = Edge("a", service, 1)
        await edge.beat()
        asked = await service.requests.submit(DATASET)
        claim = await service.claim(wm.ClaimRequest("w", 10), LeaseId("l"))
        assert (claim.units, claim.active_tasks) == ([], 0)
        assert await service.tasks() == []
        await service.requests.cancel(asked.id)
        new = m.NewTask("t", Payload("cp {input} {output}"), "user:x", granularity=TENS)
        task = await service.submit(new)
        answer = await service.requests.claim("a", rm.EdgeClaim(5), LeaseId("e"))
        assert answer.units == []
        with pytest.raises(NotFoundError):
            await service.requests.request(task.id)
        with pytest.raises(RequestError):
            await service.submit(
                m.NewTask("t", Payload("cp {input} {output}"), takes=(TakenOutputs(asked.id),))
            )

    with_service(work)


def test_who_does_not_beat_gets_nothing() -> None:
    async def work(service: Service, _: Any) -> None:
        with pytest.raises(NotFoundError):
            await service.requests.claim("a", rm.EdgeClaim(5), LeaseId("e"))

    with_service(work)


def test_the_work_of_a_lost_edge_goes_out_again() -> None:
    async def work(service: Service, _: Any) -> None:
        lost, other = Edge("a", service, 1), Edge("b", service, 2)
        await lost.beat(life_s=30.0)
        await other.beat()
        asked = await service.requests.submit(DATASET)
        for name in ("a", "b"):
            # Both are gone with what they hold before they have begun.
            held = await service.requests.claim(name, rm.EdgeClaim(6), LeaseId(f"gone-{name}"))
            assert len(held.units) == 6
        async with other.working():
            view = await ended(service, asked.id)
        assert view.state is TaskState.DONE
        assert len({one.key for one in other.made}) == 40

    with_service(work)


def test_a_repeated_claim_gives_the_same_lease() -> None:
    async def work(service: Service, _: Any) -> None:
        await Edge("a", service, 1).beat()
        await service.requests.submit(DATASET)
        first = await service.requests.claim("a", rm.EdgeClaim(3), LeaseId("one"))
        again = await service.requests.claim("a", rm.EdgeClaim(3), LeaseId("one"))
        assert first.units == again.units
        assert len(first.units) == 3

    with_service(work)


@pytest.mark.parametrize(
    ("error", "attempts"),
    [(SourceChangedError("changed"), 3), (DataError("bad"), 3)],
)
def test_what_cannot_be_made_is_set_aside_with_its_error(error: Exception, attempts: int) -> None:
    async def work(service: Service, _: Any) -> None:
        edge = Edge("a", service, 1)
        edge.fails = lambda one: error if one.sources[0].entries == ((0, 10),) else None
        async with edge.working():
            asked = await service.requests.submit(DATASET)
            view = await ended(service, asked.id)
        assert view.state is TaskState.FINISHED
        assert view.reason == "40 events were set aside"
        assert view.ready == 0.9
        failures = await service.failures(asked.id)
        assert len(failures) == attempts * 4
        assert str(error) in failures[0].error

    with_service(work)


def test_an_edge_that_fails_by_itself_costs_the_product_nothing() -> None:
    async def work(service: Service, _: Any) -> None:
        edge = Edge("a", service, 1)
        troubles = 8

        def fails(_: Descriptor) -> Exception | None:
            nonlocal troubles
            troubles -= 1
            return TransientError("the disk is full") if troubles >= 0 else None

        edge.fails = fails
        async with edge.working():
            asked = await service.requests.submit(DATASET)
            assert (await ended(service, asked.id)).state is TaskState.DONE

    with_service(work)


def test_waiting_ends_once_enough_is_ready() -> None:
    async def work(service: Service, _: Any) -> None:
        asked = await service.requests.submit(DATASET)
        loop = asyncio.get_running_loop()
        before = loop.time()
        view = await service.requests.wait(asked.id, 0.1, wait_s=20.0)
        assert (loop.time() - before, view.ready) == (20.0, 0.0)
        edge = Edge("a", service, 1)
        async with edge.working():
            view = await service.requests.wait(asked.id, 0.25, wait_s=60.0)
            assert 0.25 <= view.ready < 0.6
            assert view.edges == 1
            view = await service.requests.wait(asked.id, wait_s=60.0)
            assert view.state is TaskState.DONE

    with_service(work)


def test_a_cancelled_request_stops_edges_and_keeps_what_is_made() -> None:
    async def work(service: Service, _: Any) -> None:
        edge = Edge("a", service, 1)
        async with edge.working():
            asked = await service.requests.submit(DATASET)
            await service.requests.wait(asked.id, 0.2, wait_s=60.0)
            view = await service.requests.cancel(asked.id)
            assert view.state is TaskState.ABORTED
            made = len(edge.made)
            edge.seconds = 1_000.0
            other = await service.requests.submit(DATASET, "other")
            await asyncio.sleep(100.0)
            assert len(edge.made) <= made + 4
            await service.requests.cancel(other.id)
            await asyncio.sleep(100.0)  # The renewal tells; makers are free again.
            edge.seconds = 1.0
            third = await service.requests.submit(DATASET, "third")
            assert (await ended(service, third.id)).state is TaskState.DONE
        page = await service.requests.page(limit=2)
        assert [one.id for one in page.items] == [third.id, other.id]
        rest = await service.requests.page(after=page.next or 0)
        assert [one.id for one in rest.items] == [asked.id]
        assert rest.next is None

    with_service(work)


def test_an_edge_that_stops_gives_back_what_it_has_not_made() -> None:
    async def work(service: Service, _: Any) -> None:
        edge = Edge("a", service, 1)
        edge.seconds = 1_000.0
        asked = await service.requests.submit(DATASET)
        async with edge.working():
            await asyncio.sleep(5.0)
            assert (await service.requests.request(asked.id)).progress.sent == 40
        assert (await service.requests.request(asked.id)).progress.sent == 0

    with_service(work)


def test_the_same_id_again_is_the_same_request() -> None:
    async def work(service: Service, _: Any) -> None:
        first = await service.requests.submit(DATASET, "once")
        assert await service.requests.submit(DATASET, "once") == first
        with pytest.raises(ConflictError):
            await service.requests.submit(rm.NewRequest("user:x"), "once")

    with_service(work)


def test_priorities_order_requests() -> None:
    async def work(service: Service, _: Any) -> None:
        await Edge("a", service, 1).beat()
        await service.requests.submit(DATASET, "low")
        urgent = rm.NewRequest(
            "user:x", granularity=TENS, scheduling=m.Scheduling(priority=5), branches=["x"]
        )
        asked = await service.requests.submit(urgent, "high")
        answer = await service.requests.claim("a", rm.EdgeClaim(3), LeaseId("e"))
        assert {(unit.request, unit.priority) for unit in answer.units} == {(asked.id, 5)}

    with_service(work)


def test_a_request_that_nobody_can_work_on_says_so() -> None:
    async def work(service: Service, _: Any) -> None:
        asked = await service.requests.submit(DATASET)
        assert asked.reason == "it waits: no edge takes work"
        edge = Edge("a", service, 1)
        await edge.beat()
        assert (await service.requests.request(asked.id)).reason == ""
        elsewhere = await service.requests.submit(rm.NewRequest("user:x", site="BONN"))
        assert elsewhere.reason == "it waits: no edge of the site BONN takes work; there are a"
        here = await service.requests.submit(rm.NewRequest("user:x", site="a"))
        assert here.reason == ""

    with_service(work)


def test_a_request_that_is_not_there_is_told_as_one() -> None:
    async def work(service: Service, _: Any) -> None:
        with pytest.raises(NotFoundError, match="no request 77") as told:
            await service.requests.request(77)
        assert "evstream request list" in told.value.hint

    with_service(work)


def test_events_are_server_sent() -> None:
    async def work(service: Service, application: Any) -> None:
        import httpx2

        asked = await service.requests.submit(DATASET)
        await service.requests.cancel(asked.id)
        transport = httpx2.ASGITransport(application.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            answer = await client.get(f"/v1/requests/{asked.id}/events", headers=DOOR)
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.text.startswith("event: ended\ndata: {")
        assert answer.text.endswith("}\n\n")
        data = answer.text.partition("data: ")[2]
        assert msgspec.json.decode(data, type=rm.RequestView).id == asked.id

    with_service(work)
