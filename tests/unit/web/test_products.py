"""Prepared products over HTTP, through the client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from evstream.assembly import Application
from evstream.client import Service
from evstream.domain.errors import ConflictError, NotFoundError, RequestError
from evstream.testing.simulator import sample_files
from evstream.wire import messages as m
from evstream.wire import product_messages as pm
from tests.unit.web.test_api import with_application

FILES = sample_files(files=2, entries=100)
PFNS = list(FILES)


def with_service(work: Callable[[Service], Awaitable[None]]) -> None:
    """Run some work against a service in memory that has a dataset of two files."""

    async def ask(application: Application) -> None:
        service = application.client()
        await service.add_dataset(m.NewDataset([m.NewFile(pfn) for pfn in PFNS], "user:x"))
        await service.prepared.beat("near", pm.Beat("https://near", life_s=60.0))
        await work(service)
        await service.close()

    with_application(ask, FILES)


async def cut(service: Service, lfn: str, start: int, stop: int, *globs: str) -> dict[str, Any]:
    """Return the descriptor of a slice."""
    new = m.NewSlice("user:x", lfn, "", start, stop, list(globs))
    return (await service.describe_slice(new)).descriptor


def held(descriptor: dict[str, Any], size: int = 10) -> pm.HeldProduct:
    """Return a product as an edge tells it."""
    return pm.HeldProduct(descriptor, "e1", size, "0" * 64)


def test_what_edges_say_is_found() -> None:
    async def work(service: Service) -> None:
        dataset = await service.dataset("user:x")
        first, second = (file.lfn for file in dataset.files)
        branch = "event"
        wide = held(await cut(service, first, 0, 90), 900)
        narrow = held(await cut(service, first, 10, 20, branch), 20)
        other = held(await cut(service, second, 0, 50, branch), 50)
        added = await service.prepared.register("near", pm.HeldProducts([wide, narrow, other]))
        assert added == 3
        slices = [
            m.NewSlice("user:x", first, "", 12, 14, [branch]),
            m.NewSlice("user:x", first, "", 12, 14),
            m.NewSlice("user:x", first, "", 95, 100, [branch]),
        ]
        found = await service.prepared.search(pm.Search(slices))
        assert [one and one.size for one in found] == [20, 900, None]
        assert found[0] is not None
        assert found[0].descriptor == narrow.descriptor
        assert [place.url for place in found[0].places] == ["https://near"]
        by_descriptor = pm.Search(descriptors=[narrow.descriptor])
        assert await service.prepared.search(by_descriptor) == found[:1]
        assert await service.prepared.places(found[0].key) == found[:1]

        asked = pm.ReadyRequest("user:x", branches=[branch], files=1)
        ready = await service.prepared.ready(asked)
        assert ready.files == [pm.ReadyFile(first, 100, {"near": [(0, 90)]})]
        assert ready.next == 1
        rest = await service.prepared.ready(pm.ReadyRequest("user:x", "", [branch], 1))
        assert rest == pm.ReadyAnswer([pm.ReadyFile(second, 100, {"near": [(0, 50)]})])
        assert len(await service.prepared.recipes("user:x", first)) == 2

        name = pm.ProductName(found[0].key, "e1")
        assert await service.prepared.drop("near", pm.DroppedProducts([name])) == 1
        (left,) = await service.prepared.search(by_descriptor)
        assert left is not None
        assert left.size == 900
        (edge,) = await service.prepared.edges()
        assert (edge.name, edge.products, edge.bytes) == ("near", 2, 950)
        await service.prepared.remove_edge("near")
        assert await service.prepared.search(by_descriptor) == [None]

    with_service(work)


def test_requests_are_counted() -> None:
    async def work(service: Service) -> None:
        lfn = (await service.dataset("user:x")).files[1].lfn
        await service.prepared.count_request(await cut(service, lfn, 0, 9), 3)
        await service.prepared.count_request(await cut(service, lfn, 50, 60), 2)
        (wanted,) = await service.prepared.most_wanted("user:x")
        assert (wanted.lfn, wanted.recipe.name) == (lfn, "slice")
        assert wanted.score == pytest.approx(5.0)
        assert [one.lfn for one in await service.prepared.most_wanted()] == [""]

    with_service(work)


def test_copies_stand_beside_what_was_registered() -> None:
    async def work(service: Service) -> None:
        lfn = (await service.dataset("user:x")).files[0].lfn
        copy = pm.NewReplica(lfn, "https://user:secret@se/a.root?key=1", "LYON", "copying")
        await service.prepared.add_replicas(pm.NewReplicas("user:x", [copy]))
        own, added = await service.prepared.replicas("user:x", lfn)
        assert own.registered
        assert added == pm.ReplicaView(lfn, "https://se/a.root", "LYON", "copying")
        assert len(await service.prepared.replicas("user:x")) == 3
        other = pm.NewReplica(lfn, "https://user:other@se/a.root?key=1")
        shown = pm.NewReplica(lfn, added.pfn)
        assert await service.prepared.remove_replicas(pm.NewReplicas("user:x", [other])) == 0
        assert await service.prepared.remove_replicas(pm.NewReplicas("user:x", [copy])) == 1
        assert await service.prepared.replicas("user:x", lfn) == [own]
        await service.prepared.add_replicas(pm.NewReplicas("user:x", [copy, other]))
        assert await service.prepared.remove_replicas(pm.NewReplicas("user:x", [shown])) == 2
        assert await service.prepared.replicas("user:x", lfn) == [own]

    with_service(work)


def test_what_cannot_be_is_refused() -> None:
    async def work(service: Service) -> None:
        prepared = service.prepared
        lfn = (await service.dataset("user:x")).files[0].lfn
        product = held(await cut(service, lfn, 0, 9))
        await prepared.register("near", pm.HeldProducts([product]))
        other = pm.HeldProduct(product.descriptor, "e1", 11, "0" * 64)
        with pytest.raises(ConflictError):
            await prepared.register("near", pm.HeldProducts([other]))
        with pytest.raises(NotFoundError):
            await prepared.register("far", pm.HeldProducts([product]))
        with pytest.raises(NotFoundError):
            await prepared.places("0" * 64)
        with pytest.raises(NotFoundError):
            await prepared.add_replicas(pm.NewReplicas("user:x", [pm.NewReplica("no", "/a")]))
        with pytest.raises(NotFoundError):
            await prepared.replicas("user:x", "no")
        for refused in (
            prepared.beat("a b", pm.Beat("https://x")),
            prepared.beat("ab", pm.Beat("https://x", life_s=-1.0)),
            prepared.register("near", pm.HeldProducts([held({"evstream": 1})])),
            prepared.search(pm.Search()),
            prepared.search(pm.Search([m.NewSlice("user:x", lfn)], [product.descriptor])),
            prepared.places("x"),
            prepared.most_wanted(limit=0),
            prepared.ready(pm.ReadyRequest("user:x", branches=["none*"])),
        ):
            with pytest.raises(RequestError):
                await refused

    with_service(work)
