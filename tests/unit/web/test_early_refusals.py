"""Whoever would be sent away by the lanes is sent away before anything is begun for them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx2

from evstream.domain.descriptor import Descriptor
from evstream.domain.lanes import Ask, Asker
from evstream.web.early_refusals import ASKER_BYTES_MAX
from evstream.wire import messages as m
from tests.unit.edge.test_edge_prepares import FILES, edge_beside, read_all
from tests.unit.web.test_api import with_application
from tests.unit.web.test_short_way import scope_of, signed


def test_an_early_refusal_is_what_the_long_way_says(tmp_path: Path) -> None:
    async def work(application: Any) -> None:
        service = application.client()
        await service.add_dataset(m.NewDataset([m.NewFile(pfn) for pfn in FILES], "user:x"))
        edge = edge_beside(application, tmp_path, makers=1, on_demand_depth=1)
        await edge.joining.beat()
        at_once = edge.app.state.at_once

        async def described(start: int) -> Descriptor:
            wanted = m.NewSlice("user:x", next(iter(FILES)), "", start, start + 10)
            plan = await service.describe_slice(wanted)
            return Descriptor.from_wire(plan.descriptor)

        url_of = partial(signed, edge)
        kept, made, wanted = [await described(start) for start in (0, 10, 20)]
        pat, urgent = Asker("pat"), Asker("pat", priority=9)
        await read_all(edge.deliveries, kept)
        await edge.deliveries.settled()
        async with AsyncExitStack() as busy:
            await busy.enter_async_context(edge.lanes.admit(Ask()))
            assert at_once(scope_of(url_of(wanted, pat))) is None, "one may wait"
            waiting = asyncio.create_task(edge.deliveries.open(made, pat.ask("")))
            while not edge.lanes.states()[0].waiting:  # noqa: ASYNC110
                await asyncio.sleep(0)
            url = url_of(wanted, pat)
            early = at_once(scope_of(url))
            assert early is not None
            transport = httpx2.ASGITransport(edge.app)
            async with httpx2.AsyncClient(transport=transport, base_url="http://edge") as client:
                late = await client.get(url)
            status, lines, content = early
            told = b"".join(b"%b: %b\r\n" % pair for pair in late.headers.raw)
            assert (status, lines, content) == (late.status_code, told, late.content)
            assert status == 503
            assert b"retry-after: 1\r\n" in lines
            assert edge.lanes.states()[0].refused == 2
            # What is at hand or being made, who is more urgent, and all that is not as plans
            # have it, is for the long way.
            for other in (url_of(kept, pat), url_of(made, pat), url_of(wanted, urgent)):
                assert at_once(scope_of(other)) is None
            assert at_once(scope_of(url.replace("w=", "w=~"))) is None
            assert at_once(scope_of(url.partition("?")[0])) is None
            assert at_once(scope_of(url, b"content-length")) is None
            assert at_once(scope_of(url, b"authorization")) is None
            # It is remembered by whom it is, so that it may not be of any size.
            assert at_once(scope_of(url.replace("pat", "p" * ASKER_BYTES_MAX))) is None
            assert at_once({**scope_of(url), "method": "HEAD"}) is None
            assert at_once({**scope_of(url), "path": "/v1/outputs/x"}) is None
        (await waiting).close()
        await edge.close()
        await service.close()

    with_application(work, FILES)
