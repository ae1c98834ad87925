"""Traces from a seed: what clients of a site might ask for.

Each seed draws the parameters too (products, sizes, steepness, lengths), from wide ranges: two
seeds differ in more than the order of requests.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from evstream.domain.caching.policy import Request

SIZE_MIN, SIZE_MAX = 4_096, 4 << 30
GAP_S = 2.0
"""Mean time between requests."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of products: log-normal about a median, between `SIZE_MIN` and `SIZE_MAX`."""

    median: float
    sigma: float

    @classmethod
    def drawn(cls, chance: random.Random) -> Sizes:
        """Return a median from 100 kB to 100 MB, and how far sizes lie apart."""
        return cls(10.0 ** chance.uniform(5.0, 8.0), chance.uniform(0.2, 1.8))

    def one(self, chance: random.Random) -> int:
        """Draw a size."""
        size = int(self.median * math.exp(chance.gauss(0.0, self.sigma)))
        return min(max(size, SIZE_MIN), SIZE_MAX)


class _Zipf:
    """Numbers from 0 to `count` - 1, the k-th as likely as (k + 1) to the power of -steepness."""

    def __init__(self, count: int, steepness: float) -> None:
        weights = ((rank + 1) ** -steepness for rank in range(count))
        self._sums = list(itertools.accumulate(weights))
        self._numbers = range(count)

    def draw(self, chance: random.Random, count: int) -> list[int]:
        return chance.choices(self._numbers, cum_weights=self._sums, k=count)


def zipf(chance: random.Random, requests: int) -> list[Request]:
    """Ask for a few products often and for most of them seldom; popularity stays as it is."""
    products = int(requests * 10.0 ** chance.uniform(-1.5, -0.3))
    ranks = _Zipf(products, chance.uniform(0.6, 1.2))
    sizes = _sizes(chance, products)
    return _timed(chance, [(number, sizes[number]) for number in ranks.draw(chance, requests)])


def scan(chance: random.Random, requests: int) -> list[Request]:
    """Mix a popular core with passes over large datasets, some of which come again."""
    share = chance.uniform(0.3, 0.8)
    core = int(requests * 10.0 ** chance.uniform(-1.8, -0.8))
    ranks = _Zipf(core, chance.uniform(0.6, 1.2))
    core_sizes = _sizes(chance, core)
    passes = _Passes(chance, int(requests * share), again=chance.uniform(0.0, 0.4))
    asked: list[tuple[Hashable, int]] = []
    popular = iter(ranks.draw(chance, requests))
    for _ in range(requests):
        if chance.random() < share:
            asked.append(passes.next())
        else:
            number = next(popular)
            asked.append((number, core_sizes[number]))
    return _timed(chance, asked)


class _Passes:
    """Datasets read from end to end, a few at a time."""

    def __init__(self, chance: random.Random, requests: int, again: float) -> None:
        self._chance, self._again = chance, again
        self._length = max(10, int(requests * 10.0 ** chance.uniform(-2.5, -0.7)))
        self._read: list[list[tuple[str, int]]] = []
        self._running = [self._begin() for _ in range(chance.randint(1, 5))]

    def next(self) -> tuple[str, int]:
        place = self._chance.randrange(len(self._running))
        try:
            return next(self._running[place])
        except StopIteration:
            self._running[place] = self._begin()
            return next(self._running[place])

    def _begin(self) -> itertools.chain[tuple[str, int]]:
        if self._read and self._chance.random() < self._again:
            return itertools.chain(self._chance.choice(self._read))
        sizes = Sizes.drawn(self._chance)
        length = max(1, int(self._length * self._chance.uniform(0.3, 1.7)))
        name = len(self._read)
        self._read.append([(f"{name}/{n}", sizes.one(self._chance)) for n in range(length)])
        return itertools.chain(self._read[-1])


def campaign(chance: random.Random, requests: int) -> list[Request]:
    """Let campaigns come and go: each asks for its own datasets, in order or by favour.

    A campaign's interest rises at once and decays; tasks of it pass over a dataset one after the
    other, people's requests go to favourites. Some products are common to all of them.
    """
    life = requests * 10.0 ** chance.uniform(-1.3, -0.3)
    every = life / chance.uniform(2.0, 6.0)
    mixed, common = chance.uniform(0.0, 1.0), chance.uniform(0.0, 0.3)
    shared = _Zipf(max(10, requests // 100), 1.0)
    shared_sizes = _sizes(chance, max(10, requests // 100))
    running: list[_Campaign] = []
    weights: list[float] = []
    asked: list[tuple[Hashable, int]] = []
    number = 0
    due = 0.0
    for turn, rank in enumerate(shared.draw(chance, requests)):
        if turn >= due or not running:
            due = turn + chance.expovariate(1.0 / every)
            running.append(_Campaign(chance, number, life, mixed))
            number += 1
            running = [one for one in running if turn - one.begun < 5 * life or one.begun < 0]
        if turn % 64 == 0 or len(weights) != len(running):
            for one in running:
                one.begun = turn if one.begun < 0 else one.begun
            weights = [one.weight * math.exp((one.begun - turn) / life) for one in running]
        if chance.random() < common:
            asked.append((f"common/{rank}", shared_sizes[rank]))
        else:
            asked.append(chance.choices(running, weights)[0].next())
    return _timed(chance, asked)


class _Campaign:
    def __init__(self, chance: random.Random, number: int, life: float, mixed: float) -> None:
        self._chance, self._mixed = chance, mixed
        self.begun = -1
        self.weight = 10.0 ** chance.uniform(-0.5, 0.5)
        sizes = Sizes.drawn(chance)
        count = max(10, int(life * 10.0 ** chance.uniform(-1.5, -0.3)))
        self._products = [(f"{number}/{n}", sizes.one(chance)) for n in range(count)]
        self._ranks = _Zipf(count, chance.uniform(0.5, 1.1))
        self._order = list(range(count))
        chance.shuffle(self._order)
        self._tasks = [0.0] * chance.randint(1, 4)
        self._favourites: list[int] = []

    def next(self) -> tuple[str, int]:
        if self._chance.random() < self._mixed:
            if not self._favourites:
                self._favourites = self._ranks.draw(self._chance, 256)
            return self._products[self._order[self._favourites.pop()]]
        task = self._chance.randrange(len(self._tasks))
        at = int(self._tasks[task]) % len(self._products)
        self._tasks[task] = at + 1
        return self._products[at]


def _sizes(chance: random.Random, count: int) -> list[int]:
    sizes = Sizes.drawn(chance)
    return [sizes.one(chance) for _ in range(count)]


def _timed(chance: random.Random, asked: Sequence[tuple[Hashable, int]]) -> list[Request]:
    now = 0.0
    trace = []
    for key, size in asked:
        now += chance.expovariate(1.0 / GAP_S)
        trace.append(Request(now, str(key), size, float(size)))
    return trace


KINDS: Mapping[str, Callable[[random.Random, int], list[Request]]] = {
    "zipf": zipf,
    "scan": scan,
    "campaign": campaign,
}
"""Makers of traces, by name."""


def distinct_bytes(trace: Sequence[Request]) -> int:
    """Return the bytes of all products of a trace, each once."""
    return sum({(request.key, request.size): request.size for request in trace}.values())
