"""Two edges beside a head: what is wanted spreads, what is not goes, who reads on finds more."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import httpx2
import pytest

from evstream.adapters.formats import KnownFormats
from evstream.adapters.offload import InPlace
from evstream.adapters.source.memory import MemoryOpener
from evstream.assembly.edge import EdgeApplication, EdgeParts
from evstream.client import Connection, Service
from evstream.domain.descriptor import Descriptor
from evstream.domain.errors import NotFoundError
from evstream.domain.lanes import Lane
from evstream.domain.names import ProductKey
from evstream.edge.placing import KEPT_S
from evstream.head.edge_keys import EdgeKeys
from evstream.head.placing import Placing
from evstream.settings import Settings
from evstream.testing.seeded_ids import SeededIds
from evstream.testing.simulator import sample_files
from evstream.testing.virtual_time import VirtualClock
from evstream.wire import messages as m
from evstream.wire import product_messages as pm
from tests.unit.edge.test_edge_prepares import read_all
from tests.unit.web.test_api import with_application

FILES = sample_files(files=1, entries=100)
LFN = next(iter(FILES))


class Network(httpx2.AsyncBaseTransport):
    """Carries requests to edges by their host's name."""

    def __init__(self) -> None:
        self.edges: dict[str, EdgeApplication] = {}
        self.asked: list[str] = []
        self.damages = False

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request.url.host)
        app = self.edges[request.url.host].app
        answer = await httpx2.ASGITransport(app).handle_async_request(request)
        if not self.damages:
            return answer
        assert isinstance(answer.stream, httpx2.AsyncByteStream)
        body = b"".join([piece async for piece in answer.stream])
        return httpx2.Response(answer.status_code, content=body[:-1] + b"!")


def edge_on(network: Network, application: Any, folder: Path, name: str) -> EdgeApplication:
    """Return an edge that reaches the others."""
    clock, ids = VirtualClock(), SeededIds(len(network.edges))
    settings = Settings(data_dir=str(folder / name), edge_name=name, cache_bytes_max=1 << 30)
    head = Service(
        Connection(
            httpx2.ASGITransport(application.app),
            clock,
            ids,
            token=application._token,
            elsewhere=lambda: network,
        )
    )
    parts = EdgeParts(clock, ids, InPlace(), MemoryOpener(FILES), KnownFormats())
    edge = EdgeApplication(head, parts, settings, f"https://{name}.example.org", "token")
    network.edges[f"{name}.example.org"] = edge
    return edge


async def described(service: Service, start: int, stop: int) -> Descriptor:
    """Return the descriptor of a range of the file."""
    told = await service.describe_slice(m.NewSlice("user:x", LFN, "", start, stop))
    return Descriptor.from_wire(told.descriptor)


async def places(service: Service, key: str) -> list[str]:
    """Return where a product is."""
    (found,) = await service.prepared.places(ProductKey(key))
    return [place.name for place in found.places]


def with_two_edges(work: Any, folder: Path) -> None:
    """Run something on a head with two edges that have beaten."""

    async def run(application: Any) -> None:
        service = application.client()
        await service.add_dataset(m.NewDataset([m.NewFile(pfn) for pfn in FILES], "user:x"))
        network = Network()
        edges = [edge_on(network, application, folder, name) for name in ("lyon", "bonn")]
        for edge in edges:
            await edge.joining.beat()
        await work(application, service, network, *edges)
        for edge in edges:
            await edge.close()
        await service.close()

    with_application(run, FILES)


async def round_of(application: Any, *edges: EdgeApplication) -> int:
    """Plan, and have edges do what they are told; return how many orders there were."""
    count: int = await application._placing.plan()
    for edge in edges:
        await edge.joining.beat()
        await edge.placing.carry_out()
        await edge.deliveries.settled()
        await edge.telling.tell()
    return count


def test_what_is_wanted_is_copied_to_another_edge(tmp_path: Path) -> None:
    """Its bytes come from the edge that has it, and it is nobody's order again."""

    async def work(
        application: Any, service: Service, network: Network, lyon: Any, bonn: Any
    ) -> None:
        wanted = await described(service, 0, 10)
        await read_all(lyon.deliveries, wanted)
        await lyon.deliveries.settled()
        await lyon.telling.tell()
        assert await round_of(application, lyon, bonn) == 0
        await service.prepared.count_requests(pm.WantedRequest([pm.Requested(wanted.to_wire(), 9)]))
        assert await round_of(application, lyon, bonn) == 1
        assert await places(service, wanted.key) == ["bonn", "lyon"]
        assert network.asked == ["lyon.example.org"]
        assert sum(lane.made for lane in bonn.lanes.states()) == 0
        assert await round_of(application, lyon, bonn) == 0
        await read_all(bonn.deliveries, wanted)
        assert bonn.cache.state.hits == 1

    with_two_edges(work, tmp_path)


def test_what_is_compared_is_made_a_second_time_and_not_copied(tmp_path: Path) -> None:
    async def work(
        application: Any, service: Service, network: Network, lyon: Any, bonn: Any
    ) -> None:
        application._placing = Placing(
            application._parts.products, application._placing._keys, cross_check_every=1
        )
        wanted = await described(service, 0, 10)
        await read_all(lyon.deliveries, wanted)
        await lyon.deliveries.settled()
        await lyon.telling.tell()
        assert await application._placing.plan() == 1
        (order,) = application._placing.orders("bonn", await application._parts.products.now())
        assert (order.do, order.urls) == ("fetch", [])
        assert "compare" in order.reason
        bonn.placing.take([order])
        await bonn.placing.carry_out()
        await bonn.deliveries.settled()
        await bonn.telling.tell()
        assert network.asked == []
        assert await places(service, wanted.key) == ["bonn", "lyon"]
        assert await application._placing.plan() == 0
        assert application._placing.cross_checks == 1

    with_two_edges(work, tmp_path)


def test_one_in_so_many_products_is_compared_and_each_secret_chooses_others() -> None:
    heads = [EdgeKeys(bytes([number]) * 32) for number in range(2)]
    keys = [f"{number:064x}" for number in range(5_000)]
    chosen = [{key for key in keys if head.compares(key, 50)} for head in heads]
    for some in chosen:
        assert 60 <= len(some) <= 140
    assert len(chosen[0] & chosen[1]) < 20
    assert not any(heads[0].compares(key, 0) for key in keys)


def test_damaged_copies_are_made_instead(tmp_path: Path) -> None:
    async def work(
        application: Any, service: Service, network: Network, lyon: Any, bonn: Any
    ) -> None:
        wanted = await described(service, 0, 10)
        await read_all(lyon.deliveries, wanted)
        await lyon.deliveries.settled()
        await lyon.telling.tell()
        await service.prepared.count_requests(pm.WantedRequest([pm.Requested(wanted.to_wire(), 9)]))
        network.damages = True
        await round_of(application, lyon, bonn)
        assert await places(service, wanted.key) == ["bonn", "lyon"]
        made = {lane.lane: lane.made for lane in bonn.lanes.states()}
        assert made[Lane.BACKGROUND] == 1
        assert not list(bonn.cache.store.spool_dir.glob(".*.part"))

    with_two_edges(work, tmp_path)


def test_what_nobody_wants_goes_but_not_at_once(tmp_path: Path) -> None:
    async def work(
        application: Any, service: Service, network: Network, lyon: Any, bonn: Any
    ) -> None:
        wanted = await described(service, 0, 10)
        await lyon.deliveries.prepare(wanted)
        await lyon.telling.tell()
        assert await round_of(application, lyon, bonn) == 1
        assert lyon.cache.state.products == 1
        await asyncio.sleep(KEPT_S)
        assert await round_of(application, lyon, bonn) == 0  # Silent edges are given nothing.
        assert await round_of(application, lyon, bonn) == 1
        assert lyon.cache.state.products == 0
        with pytest.raises(NotFoundError):
            await places(service, wanted.key)
        assert await round_of(application, lyon, bonn) == 0

    with_two_edges(work, tmp_path)


def test_many_readers_at_once_are_a_reason_too(tmp_path: Path) -> None:
    async def work(
        application: Any, service: Service, network: Network, lyon: Any, bonn: Any
    ) -> None:
        wanted = await described(service, 0, 10)
        await read_all(lyon.deliveries, wanted)
        await lyon.deliveries.settled()
        await lyon.telling.tell()
        reading = [await lyon.deliveries.open(wanted) for _ in range(33)]
        beat = await lyon.joining.beat()
        assert beat.edge.status.reading == {wanted.key: 33}
        assert await round_of(application, lyon, bonn) == 1
        assert await places(service, wanted.key) == ["bonn", "lyon"]
        for one in reading:
            one.close()
        assert (await lyon.joining.beat()).edge.status.reading == {}

    with_two_edges(work, tmp_path)


def test_who_reads_on_finds_what_is_next(tmp_path: Path) -> None:
    """Of a file that is read from range to range, two more are made; none past its end."""

    async def work(
        application: Any, service: Service, network: Network, lyon: Any, bonn: Any
    ) -> None:
        for start in (0, 30, 60):
            await read_all(lyon.deliveries, await described(service, start, start + 30))
        await lyon.warming.make_expected()
        await lyon.deliveries.settled()
        made = {lane.lane: lane.made for lane in lyon.lanes.states()}
        assert (made[Lane.ON_DEMAND], made[Lane.BACKGROUND]) == (3, 1)
        await read_all(lyon.deliveries, await described(service, 90, 100))
        assert lyon.cache.state.hits == 1
        # Here and there is no sequence.
        for start in (5, 25, 15):
            await read_all(bonn.deliveries, await described(service, start, start + 5))
        await bonn.warming.make_expected()
        assert {lane.lane: lane.made for lane in bonn.lanes.states()}[Lane.BACKGROUND] == 0

    with_two_edges(work, tmp_path)


def test_nobody_is_ordered_what_it_holds(tmp_path: Path, rng: random.Random) -> None:
    """However products lie and are wanted: fetched where they are not, dropped where they are."""

    async def work(
        application: Any, service: Service, network: Network, lyon: Any, bonn: Any
    ) -> None:
        products = application._parts.products
        edges = ["lyon", "bonn"]
        for _ in range(30):
            start = rng.randrange(90)
            one = await described(service, start, start + rng.randint(1, 10))
            holding = rng.sample(edges, rng.randint(0, 2))
            for name in holding:
                made = pm.HeldProduct(one.to_wire(), "e", 100, "0" * 64)
                life_s = rng.choice([None, 1e6])
                await service.prepared.register(name, pm.HeldProducts([made], life_s))
            if count := rng.choice([0, 0, 1, 200]):
                asked = pm.Requested(one.to_wire(), count)
                await service.prepared.count_requests(pm.WantedRequest([asked]))
            placing = Placing(products, application._placing._keys)
            await placing.plan()
            for name in edges:
                held = {key for _, key, _ in await products.held_at(name, 0, 1000)}
                for order in placing.orders(name, await products.now()):
                    assert (order.key in held) == (order.do == "drop")
                    assert order.reason
                    assert bool(order.urls) == (order.do == "fetch")

    with_two_edges(work, tmp_path)
