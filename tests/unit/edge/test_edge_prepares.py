"""A whole edge beside a head: what a request asks for is made, kept, registered and served."""

from __future__ import annotations

import asyncio
import zlib
from pathlib import Path
from typing import Any

import pytest

from evstream.adapters.formats import KnownFormats
from evstream.adapters.offload import InPlace
from evstream.adapters.source.memory import MemoryOpener
from evstream.assembly.edge import EdgeApplication, EdgeParts
from evstream.domain.descriptor import Descriptor, copy_of
from evstream.domain.errors import NotFoundError, OverloadError
from evstream.domain.granularity import Granularity
from evstream.domain.lanes import Ask, Lane
from evstream.domain.states import TaskState
from evstream.edge import Deliveries
from evstream.settings import Settings
from evstream.testing.seeded_ids import SeededIds
from evstream.testing.simulator import sample_files
from evstream.testing.virtual_time import VirtualClock
from evstream.wire import messages as m
from evstream.wire import request_messages as rm
from tests.unit.web.test_api import with_application

FILES = sample_files(files=2, entries=100)


def edge_beside(application: Any, folder: Path, **settings: Any) -> EdgeApplication:
    """Return an edge of a head in memory, on a disk of its own."""
    own = Settings(
        data_dir=str(folder), edge_name="lyon-1", site="lyon", cache_bytes_max=1 << 30, **settings
    )
    parts = EdgeParts(VirtualClock(), SeededIds(1), InPlace(), MemoryOpener(FILES), KnownFormats())
    return EdgeApplication(application.client(), parts, own, "https://lyon-1.example.org", "token")


async def read_all(deliveries: Deliveries, descriptor: Descriptor) -> int:
    """Read a product; return its size."""
    delivery = await deliveries.open(descriptor)
    try:
        return sum([len(piece) async for piece in delivery.read(0, delivery.size)])
    finally:
        delivery.close()


def test_what_a_request_asks_for_is_kept_and_found(tmp_path: Path) -> None:
    async def work(application: Any) -> None:
        service = application.client()
        await service.add_dataset(m.NewDataset([m.NewFile(pfn) for pfn in FILES], "user:x"))
        edge = edge_beside(application, tmp_path)
        assert not edge.joining.takes_work
        await edge.joining.beat()
        assert edge.joining.takes_work
        loops = [asyncio.create_task(loop) for loop in edge.loops()]
        asked = await service.requests.submit(
            rm.NewRequest("user:x", granularity=Granularity(events=10), site="lyon")
        )
        elsewhere = await service.requests.submit(rm.NewRequest("user:x", site="bonn"))
        async for view in service.requests.watch(asked.id):
            last = view
        assert (last.state, last.ready) == (TaskState.DONE, 1.0)
        assert (await service.requests.request(elsewhere.id)).progress.sent == 0
        state = edge.cache.state
        assert state.products == 20
        lanes = {one.lane: one for one in edge.lanes.states()}
        assert (lanes[Lane.PREPARED].made, lanes[Lane.ON_DEMAND].made) == (20, 0)
        # Found, and served without a maker.
        plan = await service.describe_slice(m.NewSlice("user:x", next(iter(FILES)), "", 10, 20))
        places = await service.prepared.places(plan.key)
        assert [place.name for place in places[0].places] == ["lyon-1"]
        size = await read_all(edge.deliveries, Descriptor.from_wire(plan.descriptor))
        assert size == places[0].size
        assert edge.cache.state.hits == 1
        beat = await edge.joining.beat()
        assert beat.edge.status.lanes["prepared"].makers_max == edge.lanes.rules.makers
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        await edge.close()
        await service.close()

    with_application(work, FILES)


@pytest.mark.parametrize(("precache", "products"), [("first", 20), ("only", 0)])
def test_a_request_has_files_copied_whole(tmp_path: Path, precache: Any, products: int) -> None:
    async def work(application: Any) -> None:
        service = application.client()
        lfns = [pfn.rpartition("/")[2] for pfn in FILES]
        sums = {lfns[0]: {"adler32": f"{zlib.adler32(next(iter(FILES.values()))):08x}"}}
        files = [
            m.NewFile(pfn, checksums=sums.get(lfn, {}))
            for pfn, lfn in zip(FILES, lfns, strict=True)
        ]
        await service.add_dataset(m.NewDataset(files, "user:x"))
        edge = edge_beside(application, tmp_path)
        await edge.joining.beat()
        loops = [asyncio.create_task(loop) for loop in edge.loops()]
        cut = Granularity() if precache == "only" else Granularity(events=10)
        asked = await service.requests.submit(
            rm.NewRequest("user:x", granularity=cut, precache=precache)
        )
        async for view in service.requests.watch(asked.id):
            last = view
        assert (last.state, last.ready, last.precache) == (TaskState.DONE, 1.0, precache)
        assert edge.cache.state.products == products + len(FILES)
        # Beside products, the head is told of copies with the next beat.
        await edge.telling.tell()
        known = {file.lfn: file for file in (await service.dataset("user:x")).files}
        for lfn in lfns:
            file = known[lfn]
            key = copy_of(file.fingerprint, file.format).key
            if lfn in sums:
                (found,) = await service.prepared.places(key)
                assert [place.name for place in found.places] == ["lyon-1"]
            else:
                # What no checksum covers is kept, and not passed on.
                with pytest.raises(NotFoundError):
                    await service.prepared.places(key)
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        await edge.close()
        await service.close()

    with_application(work, FILES)


def test_beyond_its_depth_an_edge_refuses_and_serves_what_it_has(tmp_path: Path) -> None:
    async def work(application: Any) -> None:
        service = application.client()
        await service.add_dataset(m.NewDataset([m.NewFile(pfn) for pfn in FILES], "user:x"))
        edge = edge_beside(application, tmp_path, makers=1, on_demand_share=1.0, on_demand_depth=0)
        lfn = next(iter(FILES))
        warm, cold = [
            Descriptor.from_wire(
                (await service.describe_slice(m.NewSlice("user:x", lfn, "", start, 99))).descriptor
            )
            for start in (0, 1)
        ]
        size = await read_all(edge.deliveries, warm)
        await edge.deliveries.settled()
        async with edge.lanes.admit(Ask()):
            with pytest.raises(OverloadError):
                await edge.deliveries.open(cold)
            assert await read_all(edge.deliveries, warm) == size
        assert await read_all(edge.deliveries, cold) > 0
        await edge.deliveries.settled()
        await edge.close()
        await service.close()

    with_application(work, FILES)
