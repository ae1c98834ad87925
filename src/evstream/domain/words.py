"""Numbers as people read them."""

from __future__ import annotations


def counted(count: int, one: str, many: str) -> str:
    """Return a count with its words: ``1 event was``, ``2 events were``."""
    return f"{count} {one if count == 1 else many}"
