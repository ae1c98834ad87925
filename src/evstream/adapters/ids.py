"""Identifiers and chance from the operating system."""

from __future__ import annotations

import random
import secrets

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
_LENGTH = 13
"""36**13 > 2**67: more than the 60 random bits that the port promises."""


class RandomIds:
    """The `Ids` port on the operating system's randomness."""

    def __init__(self) -> None:
        self._random = random.SystemRandom()

    def new(self, prefix: str) -> str:
        """Return ``prefix`` and 67 random bits in digits and lower-case letters."""
        return prefix + "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))

    def jitter(self) -> float:
        """Return a random number in [0, 1)."""
        return self._random.random()
