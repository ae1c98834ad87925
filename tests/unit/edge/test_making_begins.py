"""A making is not taken to be unwanted before whoever it is for has come."""

from __future__ import annotations

from pathlib import Path

from evstream.domain.descriptor import Descriptor
from evstream.testing.virtual_time import VirtualClock
from evstream.wire import messages as m
from tests.unit.edge.test_edge_prepares import FILES, edge_beside
from tests.unit.web.test_api import with_application


def test_a_making_long_after_the_start_waits_for_whom_it_is_for(tmp_path: Path) -> None:
    async def work(application: object) -> None:
        service = application.client()  # type: ignore[attr-defined]
        await service.add_dataset(m.NewDataset([m.NewFile(pfn) for pfn in FILES], "user:x"))
        edge = edge_beside(application, tmp_path)
        await VirtualClock().sleep(60.0)
        # In place, the first piece is made before the asker gets on.
        plan = await service.describe_slice(m.NewSlice("user:x", next(iter(FILES)), "", 0, 20))
        kept = await edge.deliveries.prepare(Descriptor.from_wire(plan.descriptor), keep_s=60.0)
        assert kept is not None
        await edge.close()
        await service.close()

    with_application(work, FILES)
