"""``evstream report``: what the work of a task took, beside another's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter

from evstream.cli.printing import print_json, print_table, size_text
from evstream.cli.service import DEFAULT_DOOR, Door
from evstream.client import Service
from evstream.domain.accounts import Account
from evstream.domain.errors import RequestError
from evstream.domain.reports import Figure, curve, figures
from evstream.domain.words import counted
from evstream.wire.messages import TaskReport

CHART_COLUMNS = 60
_BARS = " ▁▂▃▄▅▆▇█"


def report(
    task: Annotated[int | None, Parameter(help="Number of the task; none with --by-user.")] = None,
    *,
    compare: Annotated[int | None, Parameter(help="Another task, to be shown beside it.")] = None,
    merges: Annotated[bool, Parameter(negative="", help="Of joins, not of ranges.")] = False,
    by_site: Annotated[bool, Parameter(negative="", help="A column for each site.")] = False,
    by_user: Annotated[
        bool, Parameter(negative="", help="Of all tasks: a column for each who submitted some.")
    ] = False,
    door: Door = DEFAULT_DOOR,
) -> None:
    """Show what the work of a task took: times, CPU, bytes, and units against time.

    Compared with a task whose payloads read their input themselves, it shows what fetching
    ahead gains.

    For example:

        evstream report 7 --compare 4
    """
    if by_user:
        if (task, compare) != (None, None):
            raise RequestError(
                "--by-user is of all tasks", hint="give it no task, and nothing to compare with"
            )
        _report_users(door, merges=merges, by_site=by_site)
        return
    if task is None:
        raise RequestError("no task is given", hint="give the number of one, or --by-user")
    if compare == task:
        raise RequestError("a task is not compared with itself", hint="name another")

    async def work(service: Service) -> list[TaskReport]:
        numbers = [task] if compare is None else [task, compare]
        return [await service.task_report(number) for number in numbers]

    found = door.ask(work)
    if door.json:
        print_json(found if compare is not None else found[0])
        return
    columns: dict[str, list[Account]] = {}
    for one in found:
        accounts = one.merges if merges else one.ranges
        columns[f"{one.id} {one.name}".strip()] = accounts
        if by_site:
            columns |= _at_sites(str(one.id), accounts)
    _print_figures(columns, ratio=compare is not None and not by_site)
    for one in found:
        _print_curve(one, one.merges if merges else one.ranges)


def _report_users(door: Door, *, merges: bool, by_site: bool) -> None:
    found = door.ask(lambda service: service.spent())
    if door.json:
        print_json(found)
        return
    columns: dict[str, list[Account]] = {}
    for one in found:
        accounts = one.merges if merges else one.ranges
        name = one.submitter or "not recorded"
        columns[f"{name}, {counted(one.tasks, 'task', 'tasks')}"] = accounts
        if by_site:
            columns |= _at_sites(name, accounts)
    if columns:
        _print_figures(columns, ratio=False)


def _at_sites(name: str, accounts: list[Account]) -> dict[str, list[Account]]:
    """Return accounts apart by site, each under a heading."""
    return {
        f"{name} at {site or 'no site'}": [one for one in accounts if one.site == site]
        for site in sorted({account.site for account in accounts})
    }


def _print_figures(columns: dict[str, list[Account]], *, ratio: bool) -> None:
    rows = []
    for line in zip(*(figures(accounts) for accounts in columns.values()), strict=True):
        cells = [_text(figure) for figure in line]
        if ratio and len(columns) == 2:
            cells.append(_ratio(line))
        rows.append((line[0].name, *cells))
    print_table(("", *columns, *(["ratio"] if ratio and len(columns) == 2 else [])), rows)


def _text(figure: Figure) -> str:
    if math.isnan(figure.value):
        return "-"
    if figure.unit == "B":
        return size_text(figure.value)
    if figure.unit == "1":
        return f"{figure.value:.0f}"
    return f"{figure.value:.3g} {figure.unit}"


def _ratio(line: Sequence[Figure]) -> str:
    first, second = (figure.value for figure in line)
    return f"{first / second:.3g}" if second and not math.isnan(first + second) else "-"


def _print_curve(report: TaskReport, accounts: list[Account]) -> None:
    """Print how many units had begun and were done, at equal steps of time."""
    points = curve(accounts)
    if not points:
        return
    end, most = points[-1][0], max(points[-1][1:])
    print(f"\ntask {report.id}: units against time, {most} in {end:.0f} s")
    for name, place in (("started", 1), ("done", 2)):
        bars = []
        for column in range(1, CHART_COLUMNS + 1):
            until = end * column / CHART_COLUMNS
            value = max((point[place] for point in points if point[0] <= until), default=0)
            bars.append(_BARS[round((len(_BARS) - 1) * value / most)] if most else " ")
        print(f"{name:>8} {''.join(bars)}")
