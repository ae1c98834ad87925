"""What a head remembers of the last of many: bounded, the longest unused forgotten first."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def keep(known: OrderedDict[K, V], key: K, value: V, most: int) -> None:
    """Remember a value as the last one; of more than so many, the first is forgotten."""
    known[key] = value
    known.move_to_end(key)
    if len(known) > most:
        known.popitem(last=False)
