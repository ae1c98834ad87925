"""Policies that give every product a priority: LFU and GDSF, on a heap that is tidied."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic

from evstream.domain.caching.policy import Key


@dataclass(slots=True)
class _Entry:
    size: int
    cost: float
    count: int = 1
    priority: tuple[float, int] = field(default=(0.0, 0))


class _ByPriority(Generic[Key]):
    """Gives up what has the lowest priority, of equal ones what has had it longest.

    Items of the heap whose priority is not their product's any more are left in it until they
    come up or outnumber the others.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self._held: dict[Key, _Entry] = {}
        self._heap: list[tuple[tuple[float, int], Key]] = []
        self._turn = 0

    def priority(self, entry: _Entry) -> float:
        raise NotImplementedError

    def given_up(self, priority: float) -> None:
        """Take note of the priority of what is given up."""

    def record(self, key: Key, size: int, cost: float, now: float) -> None:
        if (entry := self._held.get(key)) is not None:
            entry.count += 1
            self._rank(key, entry)

    def admits(self, key: Key, size: int, cost: float, now: float) -> bool:
        return True

    def keep(self, key: Key, size: int, cost: float, now: float) -> None:
        entry = self._held.setdefault(key, _Entry(size, cost))
        entry.size, entry.cost = size, cost
        self._rank(key, entry)

    def remove(self, key: Key) -> None:
        self._held.pop(key, None)

    def victims(self, bytes_needed: int, is_busy: Callable[[Key], bool]) -> list[Key]:
        chosen: list[Key] = []
        spared = []
        freed = 0
        while freed < bytes_needed and self._heap:
            priority, key = item = heapq.heappop(self._heap)
            entry = self._held.get(key)
            if entry is None or entry.priority != priority:
                continue
            if is_busy(key):
                spared.append(item)
                continue
            del self._held[key]
            self.given_up(priority[0])
            chosen.append(key)
            freed += entry.size
        for item in spared:
            heapq.heappush(self._heap, item)
        return chosen

    def _rank(self, key: Key, entry: _Entry) -> None:
        self._turn += 1
        entry.priority = (self.priority(entry), self._turn)
        heapq.heappush(self._heap, (entry.priority, key))
        if len(self._heap) > 2 * len(self._held) + 64:
            self._heap = [(entry.priority, key) for key, entry in self._held.items()]
            heapq.heapify(self._heap)


class Lfu(_ByPriority[Key]):
    """Gives up what was asked for least often since it came."""

    def priority(self, entry: _Entry) -> float:
        return float(entry.count)


class Gdsf(_ByPriority[Key]):
    """Greedy-Dual-Size-Frequency: requests times cost by size, above what was given up last.

    Cherkasova, "Improving WWW proxies performance with Greedy-Dual-Size-Frequency caching
    policy", HPL-98-69R1.

    Parameters
    ----------
    by_cost : bool
        Whether a miss costs what it is said to cost, or all cost the same: after hits.
    """

    def __init__(self, capacity_bytes: int, by_cost: bool = False) -> None:
        super().__init__(capacity_bytes)
        self._by_cost = by_cost
        self._age = 0.0

    def priority(self, entry: _Entry) -> float:
        return self._age + entry.count * (entry.cost if self._by_cost else 1.0) / entry.size

    def given_up(self, priority: float) -> None:
        self._age = priority
