"""Lists come in pages: ``next`` of an answer is what to give as ``after`` for the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Generic, TypeVar

from msgspec import Meta

from evstream.wire.messages import Message

T = TypeVar("T")

PAGE = 1_000
PAGE_MAX = 100_000

Limit = Annotated[int, Meta(ge=1, le=PAGE_MAX)]


class NamedPage(Message, Generic[T], frozen=True):
    """Items by name; ``next`` is the last name, if there may be more."""

    items: list[T]
    next: str | None = None


class NumberedPage(Message, Generic[T], frozen=True):
    """Items by number or place; ``next`` is the last one's, if there may be more."""

    items: list[T]
    next: int | None = None


class NamesQuery(Message, frozen=True):
    """Of a list by name."""

    after: str = ""
    limit: Limit = PAGE


class NumbersQuery(Message, frozen=True):
    """Of a list by number or place."""

    after: Annotated[int, Meta(ge=0, le=1 << 62)] = 0
    limit: Limit = PAGE


def names_page(items: Sequence[T], name: Callable[[T], str], query: NamesQuery) -> NamedPage[T]:
    """Return a page of items that come by name, of which none need be before ``after``."""
    found = [item for item in items if name(item) > query.after]
    page = found[: query.limit]
    return NamedPage(page, name(page[-1]) if len(found) > len(page) else None)


def places_page(items: Sequence[T], query: NumbersQuery) -> NumberedPage[T]:
    """Return a page of items that are known by their places alone."""
    stop = query.after + query.limit
    return NumberedPage(list(items[query.after : stop]), stop if len(items) > stop else None)
