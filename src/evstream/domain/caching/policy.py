"""What every policy of a cache answers, and how whoever keeps the bytes calls it.

The keeper of the bytes (the edge's resource manager, or `replay`) tells a policy what is asked for
and held; the policy tells what to keep and what to give up. It touches no bytes and no clock::

    policy.record(key, size, cost, now)            # at each request, held or not
    if not held and policy.admits(key, size, cost, now):
        if used + size > capacity:
            for gone in policy.victims(used + size - capacity, is_busy):
                ...                                # delete its bytes; it is off the books
        policy.keep(key, size, cost, now)          # it is held from now on
    policy.remove(key)                             # its bytes went for another reason

At a start, `keep` is called for what was found on disk, oldest use first.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import NamedTuple, Protocol, TypeVar

Key = TypeVar("Key", bound=Hashable)


class Request(NamedTuple):
    """One request for a product.

    Attributes
    ----------
    time : float
        Seconds, from whenever.
    size : int
        Bytes, at least 1.
    cost : float
        What a miss costs: bytes to fetch from the origin, or seconds to make it. A policy compares
        costs with each other alone, so any one unit does.
    """

    time: float
    key: Hashable
    size: int
    cost: float


class CachePolicy(Protocol[Key]):
    """Which products a cache of limited size keeps.

    No method takes longer for a larger cache than its logarithm, but for a rare tidying that is
    paid for by the requests before it.
    """

    def record(self, key: Key, size: int, cost: float, now: float) -> None:
        """Take note of a request, for what is held and for what is not."""

    def admits(self, key: Key, size: int, cost: float, now: float) -> bool:
        """Tell whether to keep a product that has just been asked for and is not held.

        False is advice: one that is kept all the same does no harm but the room it takes.
        """

    def keep(self, key: Key, size: int, cost: float, now: float) -> None:
        """Enter a product that is held from now on; again changes its size and cost."""

    def remove(self, key: Key) -> None:
        """Strike out what is not held any more; nothing if it is not in the books."""

    def victims(self, bytes_needed: int, is_busy: Callable[[Key], bool]) -> list[Key]:
        """Choose what to give up, and strike it out.

        Parameters
        ----------
        bytes_needed : int
            What its sizes sum up to at least, if what is not busy suffices.
        is_busy : callable
            Whether a product is being read, or pinned: such are passed over and stay.
        """
