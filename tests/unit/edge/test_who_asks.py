"""Signed URLs say for whom a product is; an edge's makers are shared by that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import httpx2
import pytest

from evstream.adapters.offload import InPlace
from evstream.domain.descriptor import Descriptor
from evstream.domain.errors import AccessError, RequestError
from evstream.domain.lanes import Ask, Asker
from evstream.testing.manual_clock import ManualClock
from evstream.testing.virtual_time import VirtualClock
from evstream.wire import messages as m
from evstream.wire.signed_urls import (
    DerivedKeys,
    UrlSigner,
    asker_from_query,
    descriptor_query,
    packed_asker,
)
from tests.unit.edge import test_edge_prepares
from tests.unit.edge.test_edge_prepares import FILES, edge_beside
from tests.unit.web.test_api import with_application

T = TypeVar("T")


def test_an_asker_survives_its_url() -> None:
    for asker in (Asker(), Asker("a~b c&d", -3, tail=True, site="lyon"), Asker("ü")):
        assert asker_from_query(packed_asker(asker) or "0~0~~") == asker
    with pytest.raises(RequestError):
        asker_from_query("~~")


def test_nobody_makes_themselves_more_urgent() -> None:
    clock = ManualClock()
    signer = UrlSigner(DerivedKeys(b"x" * 32))
    now = clock.now()
    url = signer.sign(
        "GET", "/v1/products/k", now, now + timedelta(hours=1), {"w": packed_asker(Asker("a"))}
    )
    query = dict(parse_qsl(urlsplit(url).query))
    signer.check("GET", "/v1/products/k", query, now)
    for changed in ({**query, "w": "9~1~~a"}, {k: v for k, v in query.items() if k != "w"}):
        with pytest.raises(AccessError):
            signer.check("GET", "/v1/products/k", changed, now)


class Slow(InPlace):
    """Whatever blocks takes a tenth of a second."""

    async def __call__(self, work: Callable[[], T]) -> T:
        await asyncio.sleep(0.1)
        return await super().__call__(work)


def test_tails_come_first_and_users_have_fair_shares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(test_edge_prepares, "InPlace", Slow)
    asked = [
        ("low", Asker("a")),
        ("high", Asker("a", 5)),
        ("other", Asker("b")),
        ("tail", Asker("a", tail=True)),
    ]

    async def work(application: Any) -> None:
        service = application.client()
        await service.add_dataset(m.NewDataset([m.NewFile(pfn) for pfn in FILES], "user:x"))
        edge = edge_beside(application, tmp_path, makers=1, on_demand_share=1.0, on_demand_depth=9)
        await edge.joining.beat()
        signer, now = UrlSigner(edge.joining.keys), VirtualClock().now()
        lfn, done = next(iter(FILES)), []
        transport = httpx2.ASGITransport(edge.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://edge") as client:

            async def get(name: str, asker: Asker, start: int) -> None:
                new = m.NewSlice("user:x", lfn, "", start, 99)
                cut = Descriptor.from_wire((await service.describe_slice(new)).descriptor)
                url = signer.sign(
                    "GET",
                    f"/v1/products/{cut.key}",
                    now,
                    now + timedelta(hours=1),
                    {"w": packed_asker(asker)},
                    descriptor_query(cut),
                )
                assert (await client.get(url)).status_code == 200
                done.append(name)

            tasks = []
            async with edge.lanes.admit(Ask(user="c")):
                for start, (name, asker) in enumerate(asked):
                    tasks.append(asyncio.create_task(get(name, asker, start)))
                    await asyncio.sleep(10.0)
                    assert edge.lanes.states()[0].waiting == start + 1
            await asyncio.gather(*tasks)
        assert done == ["tail", "other", "high", "low"]
        await edge.deliveries.settled()
        await edge.close()
        await service.close()

    with_application(work, FILES)
