"""What an edge tells its head of what it holds: all of it in the end, whatever fails meanwhile."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from evstream.client.prepared import Prepared
from evstream.domain.dataset import Fingerprint
from evstream.domain.descriptor import Descriptor, slice_of
from evstream.domain.errors import ConflictError, TransientError
from evstream.edge.cache import ProductCache
from evstream.edge.products import Identity
from evstream.edge.telling import AT_ONCE, COMPARE_EVERY_S, Telling
from evstream.ports import KeptProduct
from evstream.testing.virtual_time import VirtualClock, run_virtual
from evstream.wire import product_messages as m
from evstream.wire.pages import NumberedPage

FILE = Fingerprint(100, "u", "d" * 64)
ENCODER = "e1"
PAGE = 7


def product(number: int) -> tuple[Descriptor, Identity, KeptProduct]:
    descriptor = slice_of(FILE, "Events", (number, number + 1), None)
    identity = Identity.of(descriptor.key, ENCODER)
    kept = KeptProduct(identity.name, 10, "a" * 64, "b" * 8, datetime(2030, 1, 1, tzinfo=UTC))
    return descriptor, identity, kept


class Cache:
    """Books of a cache, without a store."""

    def __init__(self) -> None:
        self.held: dict[str, KeptProduct] = {}

    def watch(self, changed: Callable[[str, KeptProduct | None], None]) -> None:
        self.changed = changed

    def kept(self, name: str) -> KeptProduct | None:
        return self.held.get(name)

    def keep(self, kept: KeptProduct) -> None:
        self.held[kept.name] = kept
        self.changed(kept.name, kept)

    def lose(self, name: str) -> None:
        if self.held.pop(name, None) is not None:
            self.changed(name, None)


class Head:
    """What a head believes of one edge; answers get lost, before or after they did something."""

    def __init__(self, rng: random.Random | None = None) -> None:
        self.believes: dict[str, m.ProductName] = {}
        self.wanted: Counter[str] = Counter()
        self.conflict = False
        self._rng = rng

    def _may_fail(self) -> None:
        if self._rng is not None and self._rng.random() < 0.2:
            raise TransientError("the head is away")

    async def register(self, edge: str, held: m.HeldProducts) -> int:
        self._may_fail()
        assert len(held.products) <= AT_ONCE
        if self.conflict:
            raise ConflictError("other bytes")
        for one in held.products:
            key = Descriptor.from_wire(one.descriptor).key
            self.believes[key] = m.ProductName(key, one.encoder_id)
        self._may_fail()
        return len(held.products)

    async def drop(self, edge: str, dropped: m.DroppedProducts) -> int:
        self._may_fail()
        for one in dropped.products:
            self.believes.pop(one.key, None)
        self._may_fail()
        return len(dropped.products)

    async def held(self, edge: str, after: int | None) -> NumberedPage[m.ProductName]:
        self._may_fail()
        start = after or 0
        page = list(self.believes.values())[start : start + PAGE]
        more = start + PAGE < len(self.believes)
        return NumberedPage(page, start + PAGE if more else None)

    async def count_requests(self, asked: m.WantedRequest) -> None:
        for one in asked.requests:
            self.wanted[Descriptor.from_wire(one.descriptor).key] += one.requests


def telling(head: Head, cache: Cache) -> Telling:
    plain: Any = head, cache
    clock = VirtualClock()
    return Telling(cast("Prepared", plain[0]), cast("ProductCache", plain[1]), clock, "lyon-1")


def run(main: Callable[[], Awaitable[None]]) -> None:
    run_virtual(main)


def test_what_comes_and_goes_is_told_once_each() -> None:
    async def main() -> None:
        head, cache = Head(), Cache()
        edge = telling(head, cache)
        for number in range(AT_ONCE + 3):
            descriptor, identity, kept = product(number)
            edge.heard(descriptor, identity, 2)
            cache.keep(kept)
        await edge.tell()
        assert len(head.believes) == AT_ONCE + 3
        assert set(head.wanted.values()) == {2}
        descriptor, identity, _ = product(5)
        cache.lose(identity.name)
        await edge.tell()
        assert descriptor.key not in head.believes
        assert len(head.believes) == AT_ONCE + 2

    run(main)


def test_what_was_prepared_and_thrown_away_before_it_is_told_is_not_believed() -> None:
    async def main() -> None:
        head, cache = Head(), Cache()
        edge = telling(head, cache)
        prepared = []
        for number in range(3):
            descriptor, identity, kept = product(number)
            edge.heard(descriptor, identity, 0)
            cache.keep(kept)
            prepared.append(m.HeldProduct(descriptor.to_wire(), ENCODER, 10, "a" * 64))
        names = [product(number)[1].name for number in range(3)]
        keys = [product(number)[0].key for number in range(3)]
        cache.lose(names[0])
        # That it goes is told before it comes: so it must not come.
        await edge.tell()
        tells = head.register

        async def loses_meanwhile(name: str, held: m.HeldProducts) -> int:
            told = await tells(name, held)
            cache.lose(names[1])
            return told

        head.register = loses_meanwhile  # type: ignore[method-assign]
        await edge.register(m.HeldProducts(prepared, 60.0))
        assert keys[0] not in head.believes
        head.register = tells  # type: ignore[method-assign]
        await edge.tell()
        assert set(head.believes) == {keys[2]}

    run(main)


def test_after_a_restart_the_head_forgets_what_is_not_here() -> None:
    async def main() -> None:
        head, cache = Head(), Cache()
        for number in range(3 * PAGE):
            descriptor, _, kept = product(number)
            head.believes[descriptor.key] = m.ProductName(descriptor.key, ENCODER)
            if number % 2:
                cache.held[kept.name] = kept
        await telling(head, cache).tell()
        left = {product(number)[0].key for number in range(3 * PAGE) if number % 2}
        assert set(head.believes) == left

    run(main)


def test_what_was_here_before_a_restart_is_told_once_somebody_asks_for_it() -> None:
    async def main() -> None:
        head, cache = Head(), Cache()
        descriptor, identity, kept = product(1)
        cache.held[kept.name] = kept
        edge = telling(head, cache)
        await edge.tell()
        assert head.believes == {}
        edge.heard(descriptor, identity, 1)
        await edge.tell()
        assert set(head.believes) == {descriptor.key}

    run(main)


def test_what_the_report_of_prepared_work_told_is_dropped_when_it_goes() -> None:
    async def main() -> None:
        head, cache = Head(), Cache()
        edge = telling(head, cache)
        await edge.tell()
        descriptor, identity, kept = product(1)
        edge.heard(descriptor, identity, 0)
        cache.keep(kept)
        head.believes[descriptor.key] = m.ProductName(descriptor.key, ENCODER)
        cache.lose(kept.name)
        await edge.tell()
        assert head.believes == {}
        assert not head.wanted

    run(main)


def test_bytes_that_are_refused_are_not_told_again_and_again() -> None:
    async def main() -> None:
        head, cache = Head(), Cache()
        edge = telling(head, cache)
        descriptor, identity, kept = product(1)
        edge.heard(descriptor, identity, 1)
        cache.keep(kept)
        head.conflict = True
        await edge.tell()
        head.conflict = False
        await edge.tell()
        assert head.believes == {}

    run(main)


def test_what_the_head_has_forgotten_is_told_again() -> None:
    async def main() -> None:
        head, cache = Head(), Cache()
        edge = telling(head, cache)
        for number in range(3 * PAGE):
            descriptor, identity, kept = product(number)
            edge.heard(descriptor, identity, 0)
            cache.keep(kept)
        await edge.tell()
        all_of_them = set(head.believes)
        assert len(all_of_them) == 3 * PAGE
        head.believes.clear()
        await edge.tell()
        assert not head.believes
        edge.compare_soon()
        await edge.tell()
        assert set(head.believes) == all_of_them

    run(main)


@pytest.mark.parametrize("round_number", range(5))
def test_whatever_gets_lost_the_head_knows_in_the_end(
    round_number: int, rng: random.Random
) -> None:
    async def main() -> None:
        head, cache = Head(rng), Cache()
        edge = telling(head, cache)
        for _ in range(300):
            descriptor, identity, kept = product(rng.randrange(40))
            if rng.random() < 0.6:
                edge.heard(descriptor, identity, 1)
                if kept.name not in cache.held:
                    cache.keep(kept)
            else:
                cache.lose(kept.name)
            if rng.random() < 0.3:
                try:
                    await edge.tell()
                except TransientError:
                    await VirtualClock().sleep(COMPARE_EVERY_S * rng.random())
        head._rng = None
        await edge.tell()
        here = {number for number in range(40) if product(number)[1].name in cache.held}
        assert set(head.believes) == {product(number)[0].key for number in here}

    run(main)
