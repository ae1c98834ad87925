"""Requests to prepare: work of the ledger that edges do, and that leaves products."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

from msgspec import Struct

from evstream.domain.errors import LimitError, RequestError
from evstream.domain.intervals import Interval
from evstream.domain.names import Lfn, WorkerId

LIFE_S_DEFAULT = 7 * 86_400.0
LIFE_S_MAX = 366 * 86_400.0
KEEP_FOR_OWNER = 2
"""Chunks that are left to the edge where they meet, as long as it works on the others."""
_WORKER = "edge-"

Precaching = Literal["no", "first", "only"]
"""Whether edges copy files whole: before they cut products of them, or instead."""


class Preparation(Struct, frozen=True, forbid_unknown_fields=True):
    """What makes a task a request: no payload runs on its ranges, edges make their products.

    Attributes
    ----------
    task : int or None
        The task whose ranges these are, if it is for one.
    site : str
        Only edges of this site do it; empty for any.
    life_s : float
        For so long an edge keeps each product at least, once it is made.
    user : str
        Edges share their makers fairly among users.
    precache : {'no', 'first', 'only'}
        Whether edges copy the files whole, and whether they cut products too.
    """

    task: int | None = None
    site: str = ""
    life_s: float = LIFE_S_DEFAULT
    user: str = ""
    precache: Precaching = "no"

    def check(self) -> None:
        """Refuse what cannot work, naming the field.

        Raises
        ------
        LimitError, RequestError
        """
        if not 0 < self.life_s <= LIFE_S_MAX:
            raise LimitError(
                f"products are to be kept for {self.life_s} s",
                hint=f"give seconds above 0 and up to {LIFE_S_MAX:.0f}",
                field="life_s",
            )
        if len(self.site) > 200 or not (self.site == "" or self.site.isprintable()):
            raise RequestError(f"{self.site[:80]!r} cannot name a site", field="site")


def edge_worker(edge: str) -> WorkerId:
    """Return the name under which the ledger knows an edge that prepares."""
    return WorkerId(_WORKER + edge)


def whole_ranges(wanted: Interval, asked: Iterable[Interval], step: int) -> list[Interval]:
    """Return the parts of a wanted interval that hold what is asked for, in whole ranges.

    Ranges are counted from where the wanted interval begins, as those of a task are, so
    that what is prepared is what the task's pilots ask for.
    """
    start, stop = wanted
    found: list[Interval] = []
    for each in sorted(asked):
        low, high = max(each[0], start), min(each[1], stop)
        if low >= high:
            continue
        first = start + (low - start) // step * step
        last = min(start + -(-(high - start) // step) * step, stop)
        if found and first <= found[-1][1]:
            found[-1] = found[-1][0], max(last, found[-1][1])
        else:
            found.append((first, last))
    return found


def first_events(
    wanted: Iterable[tuple[Lfn, Sequence[Interval]]], events: int
) -> list[tuple[Lfn, list[Interval]]]:
    """Return the first so many events of what is wanted, in its order."""
    found: list[tuple[Lfn, list[Interval]]] = []
    for lfn, intervals in wanted:
        kept: list[Interval] = []
        for start, stop in intervals:
            if events > 0:
                kept.append((start, min(stop, start + events)))
            events -= stop - start
        if kept:
            found.append((lfn, kept))
        if events <= 0:
            break
    return found


def chunks_for(
    edge: str, owners: Mapping[int, str], working: Collection[str]
) -> tuple[list[int], list[int]]:
    """Return which chunks with ready work an edge is offered: its own, and then others'.

    Another edge's chunks are offered from its end, and the last few not at all while it
    works: it is about to come to them, and has their file open.

    Parameters
    ----------
    owners : mapping of int to str
        Where the products of each chunk meet, chunks in order.
    working : collection of str
        Edges that have some of this work leased.
    """
    by_owner: dict[str, list[int]] = defaultdict(list)
    for chunk, owner in owners.items():
        by_owner[owner].append(chunk)
    own = by_owner.pop(edge, [])
    others: list[int] = []
    for owner in sorted(by_owner, key=lambda name: -len(by_owner[name])):
        chunks = by_owner[owner]
        kept = KEEP_FOR_OWNER if owner in working else 0
        others += chunks[kept:][::-1]
    return own, others
