"""What `ByReuse` knows of each product, held or remembered: a column a thing, a row a product.

About 140 bytes a product beside its key; looking at all of a million takes some tenths of a second.
"""

from __future__ import annotations

import math
from array import array
from collections import OrderedDict
from collections.abc import Hashable

import numpy as np
from numpy.typing import NDArray

from evstream.domain.caching.waits import AGES, CLASSES, age_of, class_of

GAPS_MEANT = 16
"""A product's smoothed wait is a mean of so many."""
SETTLING_EACH, SETTLING_MIN = 4, 400
"""Frequency counts as if each product had been known for so many requests more, for each product
that is held: of what came a moment ago it is not known yet that it comes often."""


class Books:
    """Rows of products, found by key.

    Attributes
    ----------
    turn : int
        Requests so far, to any product.
    rows : dict
        Row of each product that is known.
    ghosts : ordered dict
        Those of them that are not held; what is forgotten next comes first.
    used : int
        Bytes that are held.
    """

    def __init__(self) -> None:
        self.turn = 0
        self.rows: dict[Hashable, int] = {}
        self.ghosts: OrderedDict[Hashable, int] = OrderedDict()
        self.keys: list[Hashable] = []
        self.size = array("d")
        self.cost = array("d")
        self.last = array("q")
        self.count = array("q")
        self.gap = array("d")
        self.group = array("h")
        self.first = array("q")
        self.held = array("b")
        self.used = 0
        self._free: list[int] = []

    @property
    def held_count(self) -> int:
        """Products that are held."""
        return len(self.rows) - len(self.ghosts)

    def enter(self, key: Hashable, size: int, cost: float) -> int:
        """Begin a row for a product that is asked for now, for the first time; it is not held."""
        size = max(size, 1)
        if self._free:
            row = self._free.pop()
            self.keys[row] = key
            self.first[row] = self.turn
            self.size[row], self.cost[row], self.last[row] = size, cost, self.turn
            self.count[row], self.gap[row], self.group[row] = 1, 0.0, class_of(1, 0.0, size)
        else:
            row = len(self.keys)
            self.keys.append(key)
            self.first.append(self.turn)
            self.size.append(size)
            self.cost.append(cost)
            self.last.append(self.turn)
            self.count.append(1)
            self.gap.append(0.0)
            self.group.append(class_of(1, 0.0, size))
            self.held.append(0)
        self.rows[key] = self.ghosts[key] = row
        return row

    def ask_again(self, row: int) -> tuple[int, int]:
        """Note one more request; return what class it was of, and at what age it was asked for."""
        wait = self.turn - self.last[row]
        before = self.group[row]
        gap = math.log2(wait + 1.0)
        self.gap[row] += (gap - self.gap[row]) / min(self.count[row], GAPS_MEANT)
        self.count[row] += 1
        self.last[row] = self.turn
        self.group[row] = class_of(self.count[row], self.gap[row], self.size[row])
        return before, age_of(wait)

    def hold(self, row: int, size: int, cost: float) -> None:
        """Enter it as held, with its size as it is now."""
        size = max(size, 1)
        if self.held[row]:
            self.used += size - int(self.size[row])
        else:
            self.held[row] = 1
            del self.ghosts[self.keys[row]]
            self.used += size
        self.size[row], self.cost[row] = size, cost

    def release(self, row: int) -> None:
        """Enter it as no longer held; it is remembered."""
        self.held[row] = 0
        self.used -= int(self.size[row])
        self.ghosts[self.keys[row]] = row

    def forget_oldest(self) -> tuple[int, int]:
        """Forget the ghost that comes first; return its class and age."""
        key, row = self.ghosts.popitem(last=False)
        del self.rows[key]
        # Its class keeps it out of the count of those that wait.
        forgotten = self.group[row], age_of(self.turn - self.last[row])
        self.group[row] = -1
        self.keys[row] = None
        self._free.append(row)
        return forgotten

    def waiting(self) -> NDArray[np.int64]:
        """Return how many products wait, by class and age: shape (CLASSES, AGES)."""
        group = np.frombuffer(self.group, np.int16).astype(np.int64)
        cells = group * AGES + self._ages(np.frombuffer(self.last, np.int64))
        counted = np.bincount(cells[group >= 0], minlength=CLASSES * AGES)
        return counted.reshape(CLASSES, AGES)

    @property
    def settling(self) -> int:
        """Requests that frequency is smoothed over."""
        return max(SETTLING_MIN, SETTLING_EACH * self.held_count)

    def frequency(self, row: int) -> float:
        """Return requests for a product, for each request since it is known."""
        return self.count[row] / (self.turn - self.first[row] + self.settling)

    def held_rows(self) -> NDArray[np.int64]:
        """Return the rows of what is held."""
        return np.flatnonzero(np.frombuffer(self.held, np.int8))

    def known_rows(self) -> NDArray[np.int64]:
        """Return the rows of what is held or remembered."""
        return np.flatnonzero(np.frombuffer(self.group, np.int16) >= 0)

    def estimates(
        self, rows: NDArray[np.int64], index: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return how often each is asked for: by the index of its waits, and by frequency."""
        group = np.frombuffer(self.group, np.int16)[rows]
        ages = self._ages(np.frombuffer(self.last, np.int64)[rows])
        known = self.turn - np.frombuffer(self.first, np.int64)[rows] + self.settling
        return index[group, ages], np.frombuffer(self.count, np.int64)[rows] / known

    def _ages(self, last: NDArray[np.int64]) -> NDArray[np.int64]:
        waits = self.turn - last
        ages: NDArray[np.int64] = (2.0 * np.log2(waits + 1.0) + 0.5).astype(np.int64)
        return ages
