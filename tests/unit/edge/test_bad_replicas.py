"""An edge that finds a replica bad reads another, and the head names it to nobody any more."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from evstream.adapters.formats import KnownFormats
from evstream.adapters.offload import InPlace
from evstream.adapters.source.memory import MemoryOpener
from evstream.assembly.edge import EdgeApplication, EdgeParts
from evstream.domain.descriptor import Descriptor
from evstream.domain.edges import BadReplica
from evstream.settings import Settings
from evstream.testing.seeded_ids import SeededIds
from evstream.testing.simulator import sample_files
from evstream.testing.virtual_time import VirtualClock
from evstream.wire import messages as m
from evstream.wire import product_messages as pm
from tests.unit.web.test_api import with_application

FILES = sample_files(files=1, entries=100)
((NAME, CONTENT),) = FILES.items()
COPY = "https://origin.example.org/copy"


def test_a_bad_replica_is_found_told_of_and_read_no_more(tmp_path: Path) -> None:
    async def work(application: Any) -> None:
        service = application.client()
        await service.add_dataset(m.NewDataset([m.NewFile(NAME)], "user:x"))
        lfn = (await service.prepared.replicas("user:x"))[0].lfn
        copy = pm.NewReplica(lfn, COPY, "lyon")
        await service.prepared.add_replicas(pm.NewReplicas("user:x", [copy]))
        found = await service.describe_slice(m.NewSlice("user:x", lfn, "", 10, 20))
        descriptor = Descriptor.from_wire(found.descriptor)
        fingerprint = descriptor.sources[0].fingerprint
        assert (await service.edges.source(fingerprint)).pfns == (NAME, COPY)

        settings = Settings(data_dir=str(tmp_path), edge_name="lyon-1", cache_bytes_max=1 << 30)
        opener = MemoryOpener({NAME: bytes(5000) + CONTENT[5000:], COPY: CONTENT})
        parts = EdgeParts(VirtualClock(), SeededIds(1), InPlace(), opener, KnownFormats())
        url = "https://lyon-1.example.org"
        edge = EdgeApplication(application.client(), parts, settings, url, "token")
        await edge.joining.beat()
        loops = [asyncio.create_task(loop) for loop in edge.loops()]
        delivery = await edge.deliveries.open(descriptor)
        delivery.close()
        await parts.clock.sleep(3 * settings.beat_s)
        assert (await service.edges.source(fingerprint)).pfns == (COPY,)
        states = {one.pfn: one.state for one in await service.prepared.replicas("user:x")}
        assert states[NAME] == "bad"

        # The last one stays, and so does what nobody has entered.
        for pfn in (COPY, "https://elsewhere.example.org/a"):
            bad = [BadReplica(fingerprint, pfn, "?")]  # type: ignore[arg-type]
            assert await service.edges.bad_replicas("lyon-1", bad) == 0
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        await edge.close()
        await service.close()

    with_application(work, FILES)
