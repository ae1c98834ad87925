"""What the work of tasks took, summed up by who submitted them."""

# ruff: noqa: S608 - names of columns are put into statements, and nothing else

from __future__ import annotations

from evstream.adapters.catalogue.database import Database
from evstream.domain.accounts import SUMS, Account, Spent

_TIMES = {name for name in SUMS if name.endswith("_s")}
# PostgreSQL makes decimals of sums of integers.
_SUMS = ", ".join(
    f"SUM(a.{name})" if name in _TIMES else f"CAST(SUM(a.{name}) AS bigint)" for name in SUMS
)
# One of PostgreSQL's placeholders would be a remainder.
_MERGES = "a.book - 2 * (a.book / 2)"
_SPENT = f"""
    SELECT t.submitter, {_MERGES}, a.site, {_SUMS}
    FROM account a JOIN task t ON t.task = a.book / 2
    GROUP BY t.submitter, {_MERGES}, a.site"""


def spent(db: Database) -> list[Spent]:
    """Return what the work of each submitter's tasks took, by their names."""
    rows = db.execute("SELECT submitter, COUNT(*) FROM task GROUP BY submitter").fetchall()
    found = {submitter: Spent(submitter, tasks, [], []) for submitter, tasks in rows}
    for submitter, merges, site, *sums in db.execute(_SPENT).fetchall():
        one = found[submitter]
        accounts = one.merges if merges else one.ranges
        accounts.append(Account(merges, site, 0, *sums))
    for one in found.values():
        for accounts in (one.ranges, one.merges):
            accounts.sort(key=lambda account: account.site)
    return [found[submitter] for submitter in sorted(found)]
