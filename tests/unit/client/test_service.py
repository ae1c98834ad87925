"""Bodies that break, edges that forgot: how a client goes on, and when it gives up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx2
import msgspec
import pytest

from evstream.client import Connection, Service
from evstream.domain.errors import DescriptorUnknownError, EvstreamError, TransientError
from evstream.testing.seeded_ids import SeededIds
from evstream.testing.virtual_time import VirtualClock, run_virtual
from evstream.wire.messages import DeliveryPlan
from evstream.wire.problems import status_of, to_problem

PLAN = DeliveryPlan("k", {"recipe": "slice"}, ["/one", "/other"])


class Edges:
    """Answers with what is set for each path, and counts."""

    def __init__(self, **answers: bytes | EvstreamError) -> None:
        self.answers = {f"/{name}": answer for name, answer in answers.items()}
        self.asked: list[str] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request.url.path)
        if request.method == "POST":
            return httpx2.Response(200, content=msgspec.json.encode(PLAN))
        answer = self.answers[request.url.path]
        if isinstance(answer, bytes):
            return httpx2.Response(200, content=answer)
        status = status_of(answer)
        return httpx2.Response(status, content=msgspec.json.encode(to_problem(answer, status)))


def ask(edges: Edges, work: Callable[[Service], object]) -> object:
    """Do some work with a service that answers so."""

    async def main() -> object:
        transport = httpx2.MockTransport(edges)
        service = Service(Connection(transport, VirtualClock(), SeededIds(1)))
        try:
            return await work(service)  # type: ignore[misc]
        finally:
            await service.close()

    return run_virtual(main)


def test_an_edge_that_forgot_is_told_once_then_the_next_is_asked(tmp_path: Path) -> None:
    edges = Edges(one=DescriptorUnknownError("no descriptor for k"), other=b"events")
    got = ask(edges, lambda service: service.fetch_product(PLAN, tmp_path / "x"))
    assert got == {"head": 6}
    assert edges.asked == ["/one", "/v1/products", "/one", "/other"]


def test_where_all_forgot_that_is_what_is_said(tmp_path: Path) -> None:
    unknown = DescriptorUnknownError("no descriptor for k")
    edges = Edges(one=unknown, other=unknown)
    with pytest.raises(DescriptorUnknownError, match="no descriptor for k"):
        ask(edges, lambda service: service.fetch_product(PLAN, tmp_path / "x"))


def test_a_store_that_stays_away_is_asked_eight_times(tmp_path: Path) -> None:
    edges = Edges(log=TransientError("the disk is away"))
    with pytest.raises(TransientError, match="the disk is away"):
        ask(edges, lambda service: service.fetch_output("/log", tmp_path / "x"))
    assert edges.asked == ["/log"] * 8
