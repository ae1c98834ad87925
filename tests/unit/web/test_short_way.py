"""A signed URL that comes again gets the same answer, and no longer than it may."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2

from evstream.domain.descriptor import Descriptor
from evstream.wire import messages as m
from evstream.wire.signed_urls import UrlSigner, descriptor_query
from tests.unit.edge.test_edge_prepares import FILES, edge_beside
from tests.unit.web.test_api import with_application


def test_the_short_way_answers_as_the_long_one_and_ends_with_the_key(tmp_path: Path) -> None:
    async def work(application: Any) -> None:
        service = application.client()
        await service.add_dataset(m.NewDataset([m.NewFile(pfn) for pfn in FILES], "user:x"))
        edge = edge_beside(application, tmp_path)
        await edge.joining.beat()
        plan = await service.describe_slice(m.NewSlice("user:x", next(iter(FILES)), "", 10, 20))
        descriptor = Descriptor.from_wire(plan.descriptor)
        now = edge._clock.now()
        url = UrlSigner(edge.joining.keys).sign(
            "GET",
            f"/v1/products/{descriptor.key}",
            now,
            now + timedelta(hours=1),
            extra=descriptor_query(descriptor),
        )
        transport = httpx2.ASGITransport(edge.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://edge") as client:
            made = await client.get(url)
            await edge.deliveries.settled()
            short = await client.get(url)
            # A header that the short way does not know.
            long = await client.get(url, headers={"If-Match": "*"})
            assert (short.content, short.headers) == (made.content, long.headers)
            assert edge.cache.state.hits == 2
            part = await client.get(url, headers={"Range": "bytes=0-3"})
            assert (part.status_code, part.content) == (206, made.content[:4])
            assert (await client.get(url.replace("s=", "s=0"))).status_code in (401, 403)
            edge.joining.keys.replace({})
            assert (await client.get(url)).status_code in (401, 403)
        await edge.close()
        await service.close()

    with_application(work, FILES)
