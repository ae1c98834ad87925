"""Our policy: keep what brings the most for its bytes, by expected reuse against cost."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Generic, cast

import numpy as np

from evstream.domain.caching.blend import Blend
from evstream.domain.caching.books import Books
from evstream.domain.caching.policy import Key
from evstream.domain.caching.waits import Waits

LEARN_MIN, LEARN_MAX = 1_000, 20_000
"""Requests between two times that waits are learnt from."""
GHOSTS_MIN, GHOSTS_MAX = 30_000, 250_000
GHOSTS_EACH = 3
"""Products that are not held but remembered, for each that is."""
COST_WEIGHT = 1.7
"""One per cent less cost of misses counts as so many per cent more hits: what is small brings hits
cheaply, so that leaning to bytes loses few of them."""
SMOOTHING = 0.0003
"""Weight of one request in the means of what is served and what is missed."""
BAR_SMOOTHING = 0.05
"""Weight of one victim in what newcomers are held against."""
FULL = 0.9
"""Share of the capacity from which on newcomers are weighed: keepers of bytes have marks below all
of it."""
RANKED_MIN, RANKED_SHARE = 16, 32
"""The worst of all, so many or one in so many, are picked out at a time: a quarter of them may go
before all are looked at anew, since what waits loses worth."""


class ByReuse(Generic[Key]):
    """Keeps what is worth most for its bytes: expected reuse, times what a miss costs, by size.

    - *Expected reuse* is learnt (`Waits`): how soon those like it were asked for again. What was
      given up is remembered for a while, so that what a larger cache had served is learnt too.
    - *Frequency* holds that back where it believes too much (`Blend`).
    - *What a hit is worth* counts requests and cost, each in per cent of what it is now.
    - *Cache or not*: what is worth less than what is given up these days is passed on.

    A request takes a logarithm's time at most; all of it is looked at once for each hundredth
    that is given up, and after as many requests as half of what is held.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity = capacity_bytes
        self._books = Books()
        self._waits = Waits()
        self._blend = Blend()
        self._learn_at = LEARN_MIN
        # Means over recent requests: the weight that they have, hits, cost of misses.
        self._weight = self._hits = self._missed = 0.0
        self._per_cost = 0.0
        self._bar = -math.inf
        # The worst, with what they were worth when they were picked out or asked for; what is
        # worth `_ceiling` or more is not among them.
        self._worst: list[tuple[float, int]] = []
        self._ceiling = 0.0
        self._victims_left = 0

    def record(self, key: Key, size: int, cost: float, now: float) -> None:
        books = self._books
        books.turn += 1
        row = books.rows.get(key)
        hit = row is not None and bool(books.held[row])
        self._count(hit, cost)
        if row is None:
            books.enter(key, size, cost)
        else:
            self._blend.asked(self._by_waits(row), books.frequency(row))
            group, age = books.ask_again(row)
            self._waits.ended[group][age] += 1.0
            if hit:
                self._consider(row)
            else:
                books.size[row], books.cost[row] = max(size, 1), cost
                books.ghosts.move_to_end(key)
        if books.turn >= self._learn_at:
            self._learn()

    def admits(self, key: Key, size: int, cost: float, now: float) -> bool:
        if self._books.used + size <= FULL * self._capacity:
            return True
        row = self._books.rows.get(key)
        return row is None or math.log(self._worth(row)) >= self._bar

    def keep(self, key: Key, size: int, cost: float, now: float) -> None:
        row = self._books.rows.get(key)
        if row is None:
            row = self._books.enter(key, size, cost)
        self._books.hold(row, size, cost)
        self._consider(row)

    def remove(self, key: Key) -> None:
        row = self._books.rows.get(key)
        if row is not None and self._books.held[row]:
            self._books.release(row)

    def victims(self, bytes_needed: int, is_busy: Callable[[Key], bool]) -> list[Key]:
        books = self._books
        chosen: list[Key] = []
        spared: list[tuple[float, int]] = []
        freed = 0
        looked_at_all = False
        while freed < bytes_needed:
            if not self._worst or self._victims_left <= 0:
                if looked_at_all:
                    break
                # With what is busy among the worst, all of it has to be looked at.
                looked_at_all = bool(spared) or not books.held_count
                self._rank(everything=looked_at_all)
                continue
            worth, row = heapq.heappop(self._worst)
            if not books.held[row]:
                continue
            worth_now = self._worth(row)
            if worth_now > worth and self._worst and worth_now > self._worst[0][0]:
                if worth_now < self._ceiling:
                    heapq.heappush(self._worst, (worth_now, row))
                continue
            key = cast("Key", books.keys[row])
            if is_busy(key):
                spared.append((worth_now, row))
                continue
            freed += int(books.size[row])
            books.release(row)
            chosen.append(key)
            self._victims_left -= 1
            self._move_bar(worth_now)
        for item in spared:
            heapq.heappush(self._worst, item)
        return chosen

    def _count(self, hit: bool, cost: float) -> None:
        kept = 1.0 - SMOOTHING
        self._weight = kept * self._weight + SMOOTHING
        self._hits = kept * self._hits + (SMOOTHING if hit else 0.0)
        self._missed = kept * self._missed + (0.0 if hit else SMOOTHING * cost)
        # What makes log(hits) - COST_WEIGHT x log(cost of misses) largest; the constants keep
        # beginnings sane.
        self._per_cost = COST_WEIGHT * (self._hits + 0.01 * self._weight) / (self._missed + 1e-9)

    def _worth(self, row: int) -> float:
        """Return what a byte of its place brings in a request's time."""
        books = self._books
        rate = self._blend.rate(self._by_waits(row), books.frequency(row))
        return rate * (1.0 + books.cost[row] * self._per_cost) / books.size[row]

    def _by_waits(self, row: int) -> float:
        """Return how often a product is asked for, by the waits of those like it."""
        books = self._books
        # As age_of, without a call: this is what requests cost.
        age = int(2.0 * math.log2(books.turn - books.last[row] + 1.0) + 0.5)
        return self._waits.rates[books.group[row]][age]

    def _consider(self, row: int) -> None:
        """Put what is held among the worst if it is."""
        worth = self._worth(row)
        if worth < self._ceiling:
            heapq.heappush(self._worst, (worth, row))

    def _rank(self, everything: bool = False) -> None:
        """Pick out the worst of all that is held."""
        books = self._books
        rows = books.held_rows()
        rates = self._blend.rates(*books.estimates(rows, self._waits.index))
        size, cost = (np.frombuffer(column)[rows] for column in (books.size, books.cost))
        worths = rates * (1.0 + cost * self._per_cost) / size
        count = max(RANKED_MIN, len(rows) // RANKED_SHARE)
        self._victims_left = max(1, count // 4)
        if everything or count >= len(rows):
            self._ceiling = math.inf
            self._victims_left = len(rows) if everything else self._victims_left
        else:
            worst = np.argpartition(worths, count)[: count + 1]
            rows, worths = rows[worst], worths[worst]
            self._ceiling = float(worths.max())
        self._worst = list(zip(worths.tolist(), rows.tolist(), strict=True))
        heapq.heapify(self._worst)

    def _move_bar(self, worth: float) -> None:
        if self._bar == -math.inf:
            self._bar = math.log(worth)
        self._bar += BAR_SMOOTHING * (math.log(worth) - self._bar)

    def _learn(self) -> None:
        books = self._books
        held = books.held_count
        self._learn_at = books.turn + min(max(LEARN_MIN, held // 2), LEARN_MAX)
        limit = min(max(GHOSTS_MIN, GHOSTS_EACH * held), GHOSTS_MAX)
        while len(books.ghosts) > limit:
            group, age = books.forget_oldest()
            self._waits.forgotten[group][age] += 1.0
        self._blend.learn(*books.estimates(books.known_rows(), self._waits.index))
        self._waits.learn(books.waiting())
        self._worst.clear()
        self._ceiling = 0.0
