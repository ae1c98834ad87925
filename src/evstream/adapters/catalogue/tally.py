"""What an owner has done, counted while it works."""

from __future__ import annotations

import math
from bisect import bisect_left
from itertools import accumulate

from evstream.ports.metrics import Load

COMMIT_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 20.0, math.inf)
"""Bounds that commits are counted by, seconds."""


class Tally:
    """One thread counts, others may look: figures may be apart by a commit."""

    def __init__(self) -> None:
        self._operations = 0
        self._given_up = 0
        self._commits = [0] * len(COMMIT_S)
        self._commit_s = 0.0

    def count(self, operations: int, seconds: float) -> None:
        """Count a group that was answered."""
        self._operations += operations
        self._commits[bisect_left(COMMIT_S, seconds)] += 1
        self._commit_s += seconds

    def give_up(self) -> None:
        """Count a transaction that came to nothing."""
        self._given_up += 1

    def load(self, waiting: int) -> Load:
        """Return the figures, with how many operations wait."""
        commits = tuple(zip(COMMIT_S, accumulate(self._commits), strict=True))
        return Load(waiting, self._operations, self._given_up, commits, self._commit_s)
