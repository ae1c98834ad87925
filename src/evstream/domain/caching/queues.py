"""Policies of queues: LRU, SIEVE and S3-FIFO. Each touches a few links a request."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic

from evstream.domain.caching.policy import Key

SMALL_QUEUE_SHARE = 0.1
"""Of the capacity, S3-FIFO's probation; 10 % as its authors found best on most traces."""
FREQUENCY_MAX = 3
"""S3-FIFO counts no further."""


class Lru(Generic[Key]):
    """Gives up what was not asked for the longest."""

    def __init__(self, capacity_bytes: int) -> None:
        self._held: OrderedDict[Key, int] = OrderedDict()

    def record(self, key: Key, size: int, cost: float, now: float) -> None:
        if key in self._held:
            self._held.move_to_end(key)

    def admits(self, key: Key, size: int, cost: float, now: float) -> bool:
        return True

    def keep(self, key: Key, size: int, cost: float, now: float) -> None:
        self._held[key] = size

    def remove(self, key: Key) -> None:
        self._held.pop(key, None)

    def victims(self, bytes_needed: int, is_busy: Callable[[Key], bool]) -> list[Key]:
        chosen, freed = [], 0
        for key, size in self._held.items():
            if freed >= bytes_needed:
                break
            if not is_busy(key):
                chosen.append(key)
                freed += size
        for key in chosen:
            del self._held[key]
        return chosen


class Sieve(Generic[Key]):
    """A queue in order of arrival, and a hand that spares what was asked for since it last came by.

    Zhang and others, "SIEVE is simpler than LRU", NSDI 2024.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self._held: OrderedDict[Key, list[int]] = OrderedDict()  # size, visited
        # What the hand has passed, oldest first. Both together are the queue: passed, then held.
        self._passed: OrderedDict[Key, list[int]] = OrderedDict()

    def record(self, key: Key, size: int, cost: float, now: float) -> None:
        entry = self._held.get(key) or self._passed.get(key)
        if entry is not None:
            entry[1] = 1

    def admits(self, key: Key, size: int, cost: float, now: float) -> bool:
        return True

    def keep(self, key: Key, size: int, cost: float, now: float) -> None:
        entry = self._held.get(key) or self._passed.get(key)
        if entry is None:
            self._held[key] = [size, 0]
        else:
            entry[0] = size

    def remove(self, key: Key) -> None:
        self._held.pop(key, None)
        self._passed.pop(key, None)

    def victims(self, bytes_needed: int, is_busy: Callable[[Key], bool]) -> list[Key]:
        chosen: list[Key] = []
        freed = 0
        # Twice around: the first time may only clear the marks.
        for _ in range(2 * (len(self._held) + len(self._passed)) + 1):
            if freed >= bytes_needed:
                break
            if not self._held:
                self._held, self._passed = self._passed, self._held
            if not self._held:
                break
            key, entry = self._held.popitem(last=False)
            if entry[1] or is_busy(key):
                entry[1] = 0
                self._passed[key] = entry
            else:
                chosen.append(key)
                freed += entry[0]
        return chosen


class S3Fifo(Generic[Key]):
    """Newcomers prove themselves in a small queue; what has, goes round in a large one.

    Yang and others, "FIFO queues are all you need for cache eviction", SOSP 2023. What left the
    small queue unasked is remembered, and goes to the large one at once should it come back.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity = capacity_bytes
        self._small: OrderedDict[Key, list[int]] = OrderedDict()  # size, frequency
        self._main: OrderedDict[Key, list[int]] = OrderedDict()
        self._ghosts: OrderedDict[Key, int] = OrderedDict()
        self._small_bytes = self._ghost_bytes = 0

    def record(self, key: Key, size: int, cost: float, now: float) -> None:
        entry = self._small.get(key) or self._main.get(key)
        if entry is not None and entry[1] < FREQUENCY_MAX:
            entry[1] += 1

    def admits(self, key: Key, size: int, cost: float, now: float) -> bool:
        return True

    def keep(self, key: Key, size: int, cost: float, now: float) -> None:
        self.remove(key)
        if key in self._ghosts:
            self._ghost_bytes -= self._ghosts.pop(key)
            self._main[key] = [size, 0]
        else:
            self._small[key] = [size, 0]
            self._small_bytes += size

    def remove(self, key: Key) -> None:
        if (entry := self._small.pop(key, None)) is not None:
            self._small_bytes -= entry[0]
        self._main.pop(key, None)

    def victims(self, bytes_needed: int, is_busy: Callable[[Key], bool]) -> list[Key]:
        chosen: list[Key] = []
        freed = 0
        # Each goes round at most as often as it was asked for, and once more from queue to queue.
        for _ in range((FREQUENCY_MAX + 2) * (len(self._small) + len(self._main)) + 1):
            if freed >= bytes_needed:
                break
            full = self._small_bytes > SMALL_QUEUE_SHARE * self._capacity
            if self._small and (full or not self._main):
                freed += self._from_small(is_busy, chosen)
            elif self._main:
                freed += self._from_main(is_busy, chosen)
            else:
                break
        if freed < bytes_needed:
            self._take_any(bytes_needed - freed, is_busy, chosen)
        return chosen

    def _take_any(
        self, bytes_needed: int, is_busy: Callable[[Key], bool], chosen: list[Key]
    ) -> None:
        """Take what is not busy wherever it is: all else of the queue whose turn it is was busy."""
        for queue in (self._small, self._main):
            for key, (size, _) in list(queue.items()):
                if bytes_needed > 0 and not is_busy(key):
                    self.remove(key)
                    chosen.append(key)
                    bytes_needed -= size

    def _from_small(self, is_busy: Callable[[Key], bool], chosen: list[Key]) -> int:
        key, (size, frequency) = self._small.popitem(last=False)
        self._small_bytes -= size
        if frequency > 1 or is_busy(key):
            self._main[key] = [size, 0]
            return 0
        self._ghosts[key] = size
        self._ghost_bytes += size
        while self._ghost_bytes > (1.0 - SMALL_QUEUE_SHARE) * self._capacity:
            self._ghost_bytes -= self._ghosts.popitem(last=False)[1]
        chosen.append(key)
        return size

    def _from_main(self, is_busy: Callable[[Key], bool], chosen: list[Key]) -> int:
        key, (size, frequency) = self._main.popitem(last=False)
        if frequency or is_busy(key):
            self._main[key] = [size, max(0, frequency - 1)]
            return 0
        chosen.append(key)
        return size
