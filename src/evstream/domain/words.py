"""Numbers and texts as people read them."""

from __future__ import annotations


def counted(count: int, one: str, many: str) -> str:
    """Return a count with its words: ``1 event was``, ``2 events were``."""
    return f"{count} {one if count == 1 else many}"


def storable(text: str) -> str:
    """Return a text as databases can hold it: U+FFFD stands for each NUL character."""
    return text.replace("\0", "\ufffd")
