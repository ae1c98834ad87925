"""Products come from edges, from a pilot's own cut, from the service: in that order."""

# ruff: noqa: ASYNC240 - small files on a local disk, and no other work waits

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from pathlib import Path
from typing import cast

import pytest

from evstream.adapters.offload import InPlace
from evstream.client import Service
from evstream.client.download import Fits
from evstream.client.transfers import TRANSFERS_MAX
from evstream.domain.dataset import Fingerprint
from evstream.domain.descriptor import Descriptor, slice_of
from evstream.domain.errors import (
    EvstreamError,
    NotFoundError,
    TooLargeError,
    TransientError,
)
from evstream.pilot.providers import PASSED_OVER_S, Providers
from evstream.ports import Made
from evstream.testing.manual_clock import ManualClock
from evstream.wire.messages import DeliveryPlan

EDGES = ["http://one/p", "http://two/p"]
HEAD = "/v1/products/p"
RIGHT = b"product"


class Ground:
    """Edges, a head and sources, each of which may fail."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.asked: list[str] = []
        self.errors: dict[str, EvstreamError] = {}
        self.cut_bytes = RIGHT
        self.is_slice = True
        self.providers = Providers(cast("Service", self), self.clock, InPlace(), self)

    def _reach(self, who: str) -> None:
        self.asked.append(who)
        if error := self.errors.get(who):
            raise error

    async def fetch_product(
        self,
        plan: DeliveryPlan,
        path: Path,
        bytes_max: int | None = None,
        fits: Fits | None = None,
        rounds: int = TRANSFERS_MAX,
    ) -> Counter[str]:
        who = {(*EDGES, HEAD): "all", tuple(EDGES): "edges", (HEAD,): "head"}[tuple(plan.urls)]
        assert fits is not None
        assert (rounds < TRANSFERS_MAX) is (who == "edges")
        self._reach(who)
        path.write_bytes(RIGHT)
        return Counter({"edge" if who == "edges" else "head": len(RIGHT)})

    def can(self, descriptor: Descriptor) -> bool:
        return self.is_slice

    async def cut(self, descriptor: Descriptor, path: Path, bytes_max: int | None = None) -> Made:
        self._reach("cut")
        path.write_bytes(self.cut_bytes)
        return Made(1000, '"p-one"')

    async def close(self) -> bool:
        return True


@pytest.fixture
def ground() -> Ground:
    return Ground()


def plan(urls: list[str], etag: str = "", sha256: str = "", digest: str = "f" * 64) -> DeliveryPlan:
    descriptor = slice_of(Fingerprint(1, "u", digest), "Events", (0, 10), None)
    return DeliveryPlan(descriptor.key, descriptor.to_wire(), urls, etag, sha256)


def give(ground: Ground, folder: Path, wanted: DeliveryPlan) -> Counter[str]:
    received = asyncio.run(ground.providers.give(wanted, folder / "input"))
    assert (folder / "input").read_bytes() == RIGHT
    return received


def test_edges_come_first(ground: Ground, tmp_path: Path) -> None:
    assert give(ground, tmp_path, plan([*EDGES, HEAD])) == {"edge": 7}
    assert ground.asked == ["edges"]


def test_without_edges_it_is_cut_here(ground: Ground, tmp_path: Path) -> None:
    assert give(ground, tmp_path, plan([HEAD])) == {"replica": 1000}
    assert ground.asked == ["cut"]


def test_where_edges_fail_it_is_cut_here(ground: Ground, tmp_path: Path) -> None:
    ground.errors["edges"] = TransientError("away")
    assert give(ground, tmp_path, plan([*EDGES, HEAD])) == {"replica": 1000}
    assert ground.asked == ["edges", "cut"]


def test_what_cannot_be_cut_here_is_left_to_the_head_for_a_while(
    ground: Ground, tmp_path: Path
) -> None:
    ground.errors["cut"] = NotFoundError("no such file here")
    for _ in range(2):
        assert give(ground, tmp_path, plan([HEAD])) == {"head": 7}
    # Other files are none of this one's trouble.
    give(ground, tmp_path, plan([HEAD], digest="e" * 64))
    assert ground.asked == ["cut", "head", "head", "cut", "head"]
    ground.clock.advance(PASSED_OVER_S)
    del ground.errors["cut"]
    assert give(ground, tmp_path, plan([HEAD])) == {"replica": 1000}


def test_what_is_no_slice_is_made_by_others(ground: Ground, tmp_path: Path) -> None:
    ground.is_slice = False
    assert give(ground, tmp_path, plan([*EDGES, HEAD])) == {"head": 7}
    assert ground.asked == ["all"]


def test_a_cut_that_is_not_what_is_known_is_not_used(ground: Ground, tmp_path: Path) -> None:
    known = hashlib.sha256(RIGHT).hexdigest()
    give(ground, tmp_path, plan([HEAD], '"p-one"', known))
    ground.cut_bytes = b"damaged"
    assert give(ground, tmp_path, plan([HEAD], '"p-one"', known)) == {"head": 7}
    assert ground.asked == ["cut", "cut", "head"]


def test_another_encoders_digest_says_nothing_of_a_cut(ground: Ground, tmp_path: Path) -> None:
    give(ground, tmp_path, plan([HEAD], '"p-two"', "0" * 64))
    assert ground.asked == ["cut"]


@pytest.mark.parametrize("who", ["edges", "cut"])
def test_what_is_too_large_is_asked_of_nobody_else(
    ground: Ground, tmp_path: Path, who: str
) -> None:
    urls = [*EDGES, HEAD] if who == "edges" else [HEAD]
    ground.errors[who] = TooLargeError("8 bytes")
    with pytest.raises(TooLargeError):
        asyncio.run(ground.providers.give(plan(urls), tmp_path / "input", 7))
    assert ground.asked == [who]
