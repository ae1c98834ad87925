"""Identifiers and chance from a seed, so that a run can be had again."""

from __future__ import annotations

import random

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
_LENGTH = 13


class SeededIds:
    """The `Ids` port on a pseudo-random generator; never for production."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def new(self, prefix: str) -> str:
        """Return ``prefix`` and 67 random bits in digits and lower-case letters."""
        return prefix + "".join(self._random.choices(_ALPHABET, k=_LENGTH))

    def jitter(self) -> float:
        """Return a random number in [0, 1)."""
        return self._random.random()
