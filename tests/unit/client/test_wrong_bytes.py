"""A client that gets other bytes than were promised: it complains, and asks the next edge."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx2
import msgspec
import pytest

from evstream.client import Connection, Service
from evstream.client.download import Fits
from evstream.domain.errors import WrongBytesError
from evstream.testing.seeded_ids import SeededIds
from evstream.testing.virtual_time import VirtualClock, run_virtual
from evstream.wire.messages import DeliveryPlan

BREAKS_AT = 3 << 20
RIGHT, LIE = b"the right events", b"some other events"


class Edges:
    """Two edges behind a head; each sends what is set, and says it were the right bytes."""

    def __init__(self, one: bytes, other: bytes, *, judges: bool = True) -> None:
        self.bodies = {"one": one, "other": other}
        self.judges = judges
        self.asked: list[str] = []
        self.complaints: list[dict[str, str]] = []
        self.digest_of: Callable[[str], bytes] = lambda host: RIGHT
        self.told = b""

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/v1/complaints":
            self.complaints.append(json.loads(request.content))
            if not self.judges:
                return httpx2.Response(404, content=b"{}")
            told = hashlib.sha256(self.told).hexdigest() if self.told else ""
            return httpx2.Response(200, json={"quarantined": not told, "sha256": told})
        self.asked.append(request.url.host)
        digest = hashlib.sha256(self.digest_of(request.url.host)).digest()
        promised = f"sha-256=:{base64.b64encode(digest).decode()}:"
        headers = {"ETag": '"k-e"', "Repr-Digest": promised}
        return httpx2.Response(200, content=self.bodies[request.url.host], headers=headers)


PLAN = DeliveryPlan("k", {"recipe": "slice"}, ["https://one/p?s=1", "https://other/p?s=2"])


PLANNED = msgspec.structs.replace(PLAN, etag='"k-e"', sha256=hashlib.sha256(RIGHT).hexdigest())


def fetch(edges: Edges, path: Path, plan: DeliveryPlan = PLAN, fits: Fits | None = None) -> int:
    """Fetch a plan's product."""

    async def main() -> int:
        transport = httpx2.MockTransport(edges)
        connection = Connection(
            transport, VirtualClock(), SeededIds(1), patience_s=0.0, elsewhere=lambda: transport
        )
        service = Service(connection)
        try:
            return (await service.fetch_product(plan, path, fits=fits)).total()
        finally:
            await service.close()

    return run_virtual(main)


@pytest.mark.parametrize("judges", [True, False])
def test_wrong_bytes_are_told_without_the_signature_and_not_kept(
    judges: bool, tmp_path: Path
) -> None:
    edges = Edges(LIE, RIGHT, judges=judges)
    assert fetch(edges, tmp_path / "x") == len(LIE) + len(RIGHT)
    assert (tmp_path / "x").read_bytes() == RIGHT
    assert edges.asked == ["one", "other"]
    lie = hashlib.sha256(LIE).hexdigest()
    assert edges.complaints == [{"url": "https://one/p", "etag": '"k-e"', "sha256": lie}]


@pytest.mark.parametrize("told", [b"", LIE], ids=["not told", "told"])
def test_what_does_not_fit_is_not_taken_though_its_sender_had_told_it(
    told: bytes, tmp_path: Path
) -> None:
    edges = Edges(LIE, RIGHT)
    edges.digest_of, edges.told = edges.bodies.__getitem__, told
    received = fetch(edges, tmp_path / "x", fits=lambda path: path.read_bytes() == RIGHT)
    assert received == len(LIE) + len(RIGHT)
    assert (tmp_path / "x").read_bytes() == RIGHT
    assert edges.asked == ["one", "other"]
    (complaint,) = edges.complaints
    assert complaint["is_other"]
    assert complaint["sha256"] == hashlib.sha256(LIE).hexdigest()


def test_where_all_send_wrong_bytes_that_is_what_is_said(tmp_path: Path) -> None:
    edges = Edges(LIE, LIE)
    with pytest.raises(WrongBytesError):
        fetch(edges, tmp_path / "x")
    assert edges.asked == ["one", "other"]


class Disagreeing(Edges):
    """The first breaks off in the middle; the second has other bytes of the same name."""

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/v1/complaints":
            return super().__call__(request)
        self.asked.append(request.url.host)
        body = self.bodies[request.url.host]
        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        headers = {"ETag": '"k-e"', "Repr-Digest": f"sha-256=:{digest}:"}
        if request.url.host == "one" and len(self.asked) == 1:
            return httpx2.Response(200, stream=Broken(body[:BREAKS_AT]), headers=headers)
        if "Range" in request.headers:
            start = int(request.headers["Range"].removeprefix("bytes=").rstrip("-"))
            return httpx2.Response(206, content=body[start:], headers=headers)
        return httpx2.Response(200, content=body, headers=headers)


class Broken(httpx2.AsyncByteStream):
    """A body whose connection breaks."""

    def __init__(self, first: bytes) -> None:
        self._first = first

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._first
        raise httpx2.ReadError("it broke")


def test_a_mixture_of_two_edges_blames_neither_and_begins_again(tmp_path: Path) -> None:
    lie, right = ((body * BREAKS_AT)[: 2 * BREAKS_AT] for body in (LIE, RIGHT))
    edges = Disagreeing(lie, right)
    fetch(edges, tmp_path / "x")
    # It says truly what it sends; that others differ is for heads to see.
    assert (tmp_path / "x").read_bytes() == lie
    assert edges.asked == ["one", "other", "one"]
    assert edges.complaints == []


class Silent(Edges):
    """Edges promise nothing; the first has an ETag that is set. The head says what is right."""

    def __init__(self, one: bytes, other: bytes, etag: str | None, right: bytes = RIGHT) -> None:
        super().__init__(one, other)
        self.etag = etag
        self.right = right

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/v1/complaints":
            super().__call__(request)
            judged = {"quarantined": False, "sha256": hashlib.sha256(self.right).hexdigest()}
            return httpx2.Response(200, json=judged)
        self.asked.append(request.url.host)
        etag = self.etag if request.url.host == "one" else '"k-e"'
        headers = {} if etag is None else {"ETag": etag}
        return httpx2.Response(200, content=self.bodies[request.url.host], headers=headers)


@pytest.mark.parametrize("etag", ['"k-e"', 'W/"k-e"', None])
def test_bytes_without_a_digest_are_compared_with_the_plan_s(
    etag: str | None, tmp_path: Path
) -> None:
    edges = Silent(LIE, RIGHT, etag)
    fetch(edges, tmp_path / "x", PLANNED)
    assert (tmp_path / "x").read_bytes() == RIGHT
    assert edges.asked == ["one", "other"]
    lie = hashlib.sha256(LIE).hexdigest()
    assert edges.complaints == [{"url": "https://one/p", "etag": '"k-e"', "sha256": lie}]


def test_bytes_of_another_encoder_are_not_compared(tmp_path: Path) -> None:
    edges = Silent(LIE, RIGHT, '"k-f"')
    fetch(edges, tmp_path / "x", PLANNED)
    assert (tmp_path / "x").read_bytes() == LIE
    assert edges.complaints == []


def test_where_the_plan_was_wrong_the_head_says_so(tmp_path: Path) -> None:
    edges = Silent(RIGHT, LIE, '"k-e"')
    planned = msgspec.structs.replace(PLANNED, sha256=hashlib.sha256(LIE).hexdigest())
    fetch(edges, tmp_path / "x", planned)
    assert (tmp_path / "x").read_bytes() == RIGHT
    assert edges.asked == ["one"]


def test_the_service_knows_better_than_its_plan(tmp_path: Path) -> None:
    edges = Silent(RIGHT, LIE, '"k-e"')
    edges.bodies["evstream.local"] = LIE
    planned = msgspec.structs.replace(PLANNED, urls=["/v1/products/k?s=1"])
    fetch(edges, tmp_path / "x", planned)
    assert (tmp_path / "x").read_bytes() == LIE
    assert edges.complaints == []
