"""A signed URL that comes again gets the same answer, and no longer than it may."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2

from evstream.assembly.edge import EdgeApplication
from evstream.domain.descriptor import Descriptor
from evstream.domain.lanes import Asker
from evstream.wire import messages as m
from evstream.wire.signed_urls import UrlSigner, descriptor_query, packed_asker
from tests.unit.edge.test_edge_prepares import FILES, edge_beside
from tests.unit.web.test_api import with_application


def scope_of(url: str, *names: bytes) -> dict[str, Any]:
    path, _, query = url.partition("?")
    headers = [(name, b"x") for name in names]
    return {"method": "GET", "path": path, "query_string": query.encode(), "headers": headers}


def signed(edge: EdgeApplication, descriptor: Descriptor, asker: Asker) -> str:
    """Return the URL of a product at an edge, as plans have it."""
    path, now = f"/v1/products/{descriptor.key}", edge._clock.now()
    bound, query = {"w": packed_asker(asker)}, descriptor_query(descriptor)
    signer = UrlSigner(edge.joining.keys)
    return signer.sign("GET", path, now, now + timedelta(hours=1), bound, query)


def test_the_short_way_answers_as_the_long_one_and_ends_with_the_key(tmp_path: Path) -> None:
    async def work(application: Any) -> None:
        service = application.client()
        await service.add_dataset(m.NewDataset([m.NewFile(pfn) for pfn in FILES], "user:x"))
        log = tmp_path / "access.log"
        edge = edge_beside(application, tmp_path, access_log=str(log))
        await edge.joining.beat()
        plan = await service.describe_slice(m.NewSlice("user:x", next(iter(FILES)), "", 10, 20))
        descriptor = Descriptor.from_wire(plan.descriptor)
        url = signed(edge, descriptor, Asker("pat", site="bonn"))
        transport = httpx2.ASGITransport(edge.app)
        at_once = edge.app.state.at_once
        async with httpx2.AsyncClient(transport=transport, base_url="http://edge") as client:
            assert at_once(scope_of(url)) is None
            made = await client.get(url)
            await edge.deliveries.settled()
            short = at_once(scope_of(url))
            assert short is not None
            long = await client.get(url)
            lines = b"".join(b"%b: %b\r\n" % pair for pair in long.headers.raw)
            assert short == (200, lines, made.content)
            assert long.content == made.content
            assert edge.cache.state.hits == 2
            for name in (b"range", b"if-match", b"expect"):
                assert at_once(scope_of(url, name)) is None
            assert at_once({**scope_of(url), "method": "HEAD"}) is None
            part = await client.get(url, headers={"Range": "bytes=0-3"})
            assert (part.status_code, part.content) == (206, made.content[:4])
            changed = url.replace("s=", "s=0")
            assert at_once(scope_of(changed)) is None
            assert (await client.get(changed)).status_code in (401, 403)
            edge.joining.keys.replace({})
            assert at_once(scope_of(url)) is None
            assert (await client.get(url)).status_code in (401, 403)
        await edge.close()
        lines = [json.loads(line) for line in log.read_bytes().splitlines()]
        # Of the miss, of the short way, of the long one and of the part: all say who asked.
        assert [line.get("hit", False) for line in lines] == [False, True, True, True]
        assert {line["site"] for line in lines} == {"bonn"}
        await service.close()

    with_application(work, FILES)


def test_a_web_server_before_an_edge_is_told_the_place_by_the_short_way(tmp_path: Path) -> None:
    async def work(application: Any) -> None:
        service = application.client()
        await service.add_dataset(m.NewDataset([m.NewFile(pfn) for pfn in FILES], "user:x"))
        edge = edge_beside(application, tmp_path, accel_location="/kept/")
        await edge.joining.beat()
        plan = await service.describe_slice(m.NewSlice("user:x", next(iter(FILES)), "", 10, 20))
        descriptor = Descriptor.from_wire(plan.descriptor)
        url = signed(edge, descriptor, Asker("pat"))
        before = {"X-Sendfile-Type": "X-Accel-Redirect"}
        by_place = scope_of(url)
        by_place["headers"] += [(b"x-sendfile-type", b"X-Accel-Redirect"), (b"range", b"bytes=1-")]
        transport = httpx2.ASGITransport(edge.app)
        at_once = edge.app.state.at_once
        async with httpx2.AsyncClient(transport=transport, base_url="http://edge") as client:
            made = await client.get(url)
            await edge.deliveries.settled()
            long = await client.get(url, headers=before)
            lines = b"".join(b"%b: %b\r\n" % pair for pair in long.headers.raw)
            assert b"x-accel-redirect: /kept/" in lines.lower()
            assert at_once(by_place) == (200, lines, b"")
            # Whoever comes without it gets the bytes, and then who comes with it the place.
            short = at_once(scope_of(url))
            assert short is not None
            assert short[2] == made.content
            assert at_once(by_place) == (200, lines, b"")
            for unusual in ((b"x-sendfile-type", b"x"), (b"if-none-match", b"x")):
                assert at_once({**scope_of(url), "headers": [unusual]}) is None
            await edge.cache.throw_away()
            assert at_once(by_place) is None
        await edge.close()
        await service.close()

    with_application(work, FILES)
