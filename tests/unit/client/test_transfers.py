"""Transfers over a network that stalls, breaks and comes back, on virtual time."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import math
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx2
import pytest

from evstream.client import Connection, Service
from evstream.client.carrier import MADE
from evstream.client.download import PART_BYTES
from evstream.domain.errors import TransientError
from evstream.testing.seeded_ids import SeededIds
from evstream.testing.virtual_time import VirtualClock, run_virtual
from evstream.wire.messages import DeliveryPlan

PIECE = 64 << 10


class Network(httpx2.AsyncBaseTransport):
    """Servers with one body each, on links of which each request has a rate.

    Attributes
    ----------
    cuts : list of (float, float)
        From when to when nothing passes. What was under way when one begins never comes.
    head_s : dict of str to callable
        How long a host takes to answer, by the number of its requests.
    asked : list of (str, str)
        Host and range of each request that reached its server.
    """

    def __init__(self, body: bytes, *, trip_s: float = 0.1, bytes_per_s: float = 4e6) -> None:
        self.body = body
        self.bodies: dict[str, bytes] = {}
        self.trip_s = trip_s
        self.bytes_per_s = bytes_per_s
        self.cuts: list[tuple[float, float]] = []
        self.head_s: dict[str, Callable[[int], float]] = {}
        self.refuses: set[str] = set()
        self.gone: set[str] = set()
        self.stalls_at: dict[str, int] = {}
        self.count: Counter[str] = Counter()
        self.asked: list[tuple[str, str]] = []
        self.sent = 0

    def _is_cut(self) -> bool:
        now = asyncio.get_running_loop().time()
        return any(start <= now < stop for start, stop in self.cuts)

    async def pass_by(self, seconds: float) -> None:
        """Take a while; whatever is under way when the link is cut is lost."""
        before = asyncio.get_running_loop().time()
        await asyncio.sleep(seconds)
        now = asyncio.get_running_loop().time()
        if any(start < now and before < stop for start, stop in self.cuts):
            await asyncio.Event().wait()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        host = request.url.host
        if self._is_cut() or host in self.gone:
            await asyncio.sleep(request.extensions["timeout"]["connect"])
            raise httpx2.ConnectTimeout("no answer", request=request)
        await self.pass_by(self.trip_s)
        await request.extensions["trace"](MADE, {"seconds": self.trip_s})
        self.count[host] += 1
        self.asked.append((host, request.headers.get("Range", "")))
        if host in self.refuses:
            raise AssertionError("it was not to be asked")
        await self.pass_by(self.head_s.get(host, lambda number: 0.0)(self.count[host]))
        body = self.bodies.get(host, self.body)
        etag = f'"{hashlib.sha256(body).hexdigest()[:8]}"'
        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        headers = {"ETag": etag, "Repr-Digest": f"sha-256=:{digest}:"}
        start, stop, status = 0, len(body), 200
        if "Range" in request.headers and request.headers.get("If-Range", etag) == etag:
            first, last = request.headers["Range"].removeprefix("bytes=").split("-")
            start, stop = int(first), min(int(last) + 1 if last else math.inf, len(body))  # type: ignore[assignment]
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(body)}"
            status = 206
        headers["Content-Length"] = str(stop - start)
        return httpx2.Response(status, headers=headers, stream=_Sent(self, host, body, start, stop))


class _Sent(httpx2.AsyncByteStream):
    def __init__(self, network: Network, host: str, body: bytes, start: int, stop: int) -> None:
        self._network, self._host = network, host
        self._body, self._start, self._stop = body, start, stop

    async def __aiter__(self) -> AsyncIterator[bytes]:
        stalls_at = self._network.stalls_at.get(self._host, math.inf)
        for at in range(self._start, self._stop, PIECE):
            if at >= stalls_at:
                await asyncio.Event().wait()
            piece = self._body[at : min(at + PIECE, self._stop)]
            await self._network.pass_by(len(piece) / self._network.bytes_per_s)
            self._network.sent += len(piece)
            yield piece


HOSTS = ("one", "two", "three")


def plan_of(*hosts: str, held: tuple[int, ...] = ()) -> DeliveryPlan:
    urls = [f"https://{host}/v1/products/k" for host in hosts]
    return DeliveryPlan("k", {"recipe": "slice"}, urls, held=list(held))


def run(network: Network, work: Callable[[Service], Awaitable[object]]) -> float:
    """Do some work over a network; returns how long it took."""

    async def main() -> float:
        connection = Connection(
            network, VirtualClock(), SeededIds(1), patience_s=0.0, elsewhere=lambda: network
        )
        service = Service(connection)
        await work(service)
        took = asyncio.get_running_loop().time()
        await service.close()
        return took

    return run_virtual(main)


def body_of(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def test_large_products_come_in_parts_and_each_byte_once(tmp_path: Path) -> None:
    body = body_of(5 * PART_BYTES + 12_345)
    network = Network(body)
    took: list[float] = []

    async def work(service: Service) -> None:
        for _ in range(2):
            began = asyncio.get_running_loop().time()
            assert await service.fetch_product(plan_of("one"), tmp_path / "x") == {
                "edge": len(body)
            }
            took.append(asyncio.get_running_loop().time() - began)
            assert (tmp_path / "x").read_bytes() == body

    run(network, work)
    # Only after the first is it known that products are large here.
    assert network.asked[0] == ("one", "")
    assert len(network.asked) == 1 + 5
    assert took[1] < took[0] / 3
    assert network.sent == 2 * len(body)


def test_parts_that_stall_go_on_elsewhere_and_one_that_changed_begins_anew(
    tmp_path: Path,
) -> None:
    body = body_of(6 * PART_BYTES)
    network = Network(body)

    async def work(service: Service) -> None:
        await service.fetch_product(plan_of("one"), tmp_path / "x")
        network.stalls_at["one"] = 3 * PART_BYTES + PART_BYTES // 2
        sent = network.sent
        await service.fetch_product(plan_of("one", "two"), tmp_path / "x")
        assert (tmp_path / "x").read_bytes() == body
        # Nothing that came is asked for again.
        assert network.sent - sent <= len(body) + PIECE
        network.bodies["two"] = body_of(6 * PART_BYTES + 1)
        await service.fetch_product(plan_of("one", "two"), tmp_path / "x")
        assert (tmp_path / "x").read_bytes() == network.bodies["two"]

    run(network, work)


def test_a_body_that_stops_is_gone_on_with_elsewhere_from_the_same_byte(tmp_path: Path) -> None:
    body = body_of(1 << 20)
    network = Network(body)
    network.stalls_at["one"] = 512 << 10

    async def work(service: Service) -> None:
        await service.fetch_product(plan_of("one", "two"), tmp_path / "x")

    # Before anything is known it is given five seconds.
    assert run(network, work) < 6.0
    assert network.asked == [("one", ""), ("two", f"bytes={512 << 10}-")]
    assert (tmp_path / "x").read_bytes() == body
    assert network.sent == len(body)


def test_a_link_that_is_cut_is_used_again_at_once(tmp_path: Path) -> None:
    body = body_of(256 << 10)
    network = Network(body, bytes_per_s=0.5e6)
    cuts = [(10.0 + 30.0 * number, 15.0 + 30.0 * number) for number in range(4)]

    async def work(service: Service) -> None:
        async def fetch_some(worker: int) -> None:
            for _ in range(165):
                await service.fetch_product(plan_of("one", held=(0,)), tmp_path / f"{worker}")

        await asyncio.gather(*map(fetch_some, range(4)))

    undisturbed_s = run(network, work)
    network.cuts = cuts
    assert undisturbed_s > 100.0
    # What was under way is asked for again: with that, less than a second is lost on each.
    assert run(network, work) - undisturbed_s <= 4 * 6.0
    for worker in range(4):
        assert (tmp_path / f"{worker}").read_bytes() == body


def test_where_nobody_is_heard_the_network_is_waited_for(tmp_path: Path) -> None:
    network = Network(b"events")
    network.cuts = [(5.0, 15.0)]

    async def work(service: Service) -> None:
        for number in range(80):
            # So few rounds are for one that is away while others are there.
            await service.fetch_product(
                plan_of("one", "two"), tmp_path / f"{number}", None, None, 2
            )

    assert run(network, work) < 80 * 0.2 + 10.0 + 2.0


def test_where_others_are_heard_who_is_away_is_soon_given_up(tmp_path: Path) -> None:
    network = Network(b"events")
    network.gone = {"one", "two"}
    took: list[float] = []

    async def work(service: Service) -> None:
        async def others() -> None:
            for _ in range(200):
                await service.fetch_product(plan_of("three"), tmp_path / "other")

        beside = asyncio.ensure_future(others())
        with pytest.raises(TransientError):
            await service.fetch_product(plan_of("one", "two"), tmp_path / "x", None, None, 2)
        took.append(asyncio.get_running_loop().time())
        await beside

    run(network, work)
    assert took[0] < 15.0


def test_who_cannot_be_reached_is_asked_last_for_a_while(tmp_path: Path) -> None:
    network = Network(b"events")
    network.gone = {"one"}
    took: list[float] = []

    async def work(service: Service) -> None:
        for _ in range(4):
            before = asyncio.get_running_loop().time()
            await service.fetch_product(plan_of("one", "two"), tmp_path / "x")
            took.append(asyncio.get_running_loop().time() - before)
        await asyncio.sleep(20.0)
        network.gone = set()
        await service.fetch_product(plan_of("one", "two"), tmp_path / "x")

    run(network, work)
    assert took[0] > 1.0
    assert max(took[1:]) < 0.5
    assert network.asked[-1][0] == "one"


def test_where_all_are_away_that_is_told(tmp_path: Path) -> None:
    network = Network(b"events")
    network.gone = {"one", "two"}

    async def work(service: Service) -> None:
        with pytest.raises(TransientError):
            await service.fetch_product(plan_of("one", "two"), tmp_path / "x")

    assert run(network, work) < 120.0


def fetch_many(network: Network, plan: DeliveryPlan, path: Path, times: int = 200) -> list[float]:
    """Fetch a product again and again; returns how long each took."""
    took: list[float] = []

    async def work(service: Service) -> None:
        for _ in range(times):
            before = asyncio.get_running_loop().time()
            await service.fetch_product(plan, path)
            took.append(asyncio.get_running_loop().time() - before)

    run(network, work)
    return took


def test_a_late_answer_is_asked_for_elsewhere_too(tmp_path: Path) -> None:
    network = Network(b"events")
    network.head_s["one"] = lambda number: 5.0 if number in (100, 150) else 0.01
    took = fetch_many(network, plan_of("one", "two", "three", held=(0, 2)), tmp_path / "x")
    assert max(took) < 1.0
    # Only who has it is asked.
    assert network.count == {"one": 200, "three": 2}
    assert network.sent == 200 * len(b"events")


def test_a_twentieth_is_asked_for_twice_at_most(tmp_path: Path) -> None:
    network = Network(b"events")
    network.head_s["one"] = lambda number: 1.5 if number > 40 and number % 4 == 0 else 0.01
    took = fetch_many(network, plan_of("one", "two", held=(0, 1)), tmp_path / "x", times=400)
    assert max(took) > 1.5
    assert 0 < network.count["two"] <= 0.05 * network.count.total()


@pytest.mark.parametrize("held", [(), (0,), (1,)])
def test_nobody_is_asked_twice_who_would_have_to_make_it(
    held: tuple[int, ...], tmp_path: Path
) -> None:
    network = Network(b"events")
    network.refuses = {"two"}
    network.head_s["one"] = lambda number: 1.5 if number in (100, 150) else 0.01
    fetch_many(network, plan_of("one", "two", held=held), tmp_path / "x")
    assert network.count == {"one": 200}
