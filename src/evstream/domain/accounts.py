"""What work took, summed up: by task, by site, and over time. Rules only: no I/O.

An account is kept as sums from the beginning, not made of rows of units: a task of 10^9 ranges
has as many accounts as one of ten that ran as long in as many places.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from msgspec import Struct, structs

if TYPE_CHECKING:
    from evstream.domain.ledger import Progress

BIN_S = 60.0
BINS = 300
"""Bins widen: a second within the first minutes, twelve after an hour, five minutes after a day;
some 4000 in a year."""


def bin_of(seconds: float) -> int:
    """Return the number of the bin that a moment is in, by its distance from a task's beginning."""
    return int(BINS * math.log1p(max(seconds, 0.0) / BIN_S))


def begin_of(number: int) -> float:
    """Return the first second of a bin, from a task's beginning."""
    return BIN_S * math.expm1(number / BINS)


class UnitAccount(Struct, frozen=True):
    """What a worker says of a unit beside its outcome; all times in seconds.

    Attributes
    ----------
    site : str
        Where it was worked on.
    begun, ended : int
        Bins of the moments at which its payload began and its report came.
    plan_s, queue_s, fetch_s, ready_s, starved_s, idle_s, stage_s : float
        See `evstream.pilot.times.UnitTimes`.
    commit_s : float
        Of units before it: what its own report takes is not known when it is written.
    edge, replica, head, node, store : int
        Bytes of its inputs, by where they came from.
    """

    site: str = ""
    begun: int = 0
    ended: int = 0
    plan_s: float = 0.0
    queue_s: float = 0.0
    fetch_s: float = 0.0
    ready_s: float = 0.0
    starved_s: float = 0.0
    idle_s: float = 0.0
    stage_s: float = 0.0
    commit_s: float = 0.0
    edge: int = 0
    replica: int = 0
    head: int = 0
    node: int = 0
    store: int = 0


class Account(Struct, frozen=True):
    """Sums over the units of one book at one site in one bin of time.

    Attributes
    ----------
    started, done, failed : int
        Units.
    entries : int
        Of those that are done.
    cpu_s, wall_s : float
        Of payloads of those that are done; `lost_cpu_s` of those that failed.
    bytes_out : int
        Of outputs.
    """

    book: int
    site: str
    bin: int
    started: int = 0
    done: int = 0
    failed: int = 0
    entries: int = 0
    cpu_s: float = 0.0
    lost_cpu_s: float = 0.0
    wall_s: float = 0.0
    plan_s: float = 0.0
    queue_s: float = 0.0
    fetch_s: float = 0.0
    ready_s: float = 0.0
    starved_s: float = 0.0
    idle_s: float = 0.0
    stage_s: float = 0.0
    commit_s: float = 0.0
    bytes_out: int = 0
    edge: int = 0
    replica: int = 0
    head: int = 0
    node: int = 0
    store: int = 0

    @property
    def place(self) -> tuple[int, str, int]:
        """What it is a sum of."""
        return self.book, self.site, self.bin


class Spent(Struct, frozen=True):
    """What the work of all tasks of one submitter took.

    Attributes
    ----------
    submitter : str
        Empty for tasks that are older than the record of who made them.
    ranges, merges : list of Account
        Sums by site, of all time; their bins are 0, and their books 0 and 1.
    """

    submitter: str
    tasks: int
    ranges: list[Account] = []
    merges: list[Account] = []


SAID = tuple(UnitAccount.__struct_fields__[3:])
"""What is added up as a worker says it."""
SUMS = tuple(Account.__struct_fields__[3:])
"""What is added up."""


def added(one: Account, other: Account) -> Account:
    """Return the sum of two; the place is the first one's."""
    sums = {name: getattr(one, name) + getattr(other, name) for name in SUMS}
    return structs.replace(one, **sums)


def total(accounts: Iterable[Account], book: int = 0, site: str = "") -> Account:
    """Return the sum of many."""
    found = Account(book, site, 0)
    for account in accounts:
        found = added(found, account)
    return found


def unreported(
    book: int, accounts: Iterable[Account], progress: Progress, now: int
) -> list[Account]:
    """Return what was begun and lost with its workers: the ledger has it, and no worker's word.

    Where that was, and when, nobody knows: it is a sum at no site, in the bin of now.
    """
    one = total(accounts)
    lost = max(0, progress.failed_attempts - one.failed)
    if not lost:
        return []
    cpu_s = max(0.0, progress.lost_cpu_s - one.lost_cpu_s)
    return [Account(book, "", now, started=lost, failed=lost, lost_cpu_s=cpu_s)]


def add_to(known: dict[tuple[int, str, int], Account], accounts: Iterable[Account]) -> None:
    """Add accounts to those of their places."""
    for account in accounts:
        before = known.get(account.place)
        known[account.place] = account if before is None else added(before, account)
