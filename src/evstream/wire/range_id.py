"""The name of one attempt at one unit of work, as people and payloads see it."""

from __future__ import annotations

from evstream.domain.task import task_of


def range_id(book: int, chunk: int, entry_start: int, entry_stop: int, attempt: int) -> str:
    """Return ``task-book-chunk-start-stop-attempt``; unique for ever in a service."""
    return f"{task_of(book)}-{book}-{chunk}-{entry_start}-{entry_stop}-{attempt}"
