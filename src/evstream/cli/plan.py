"""``evstream plan``: from where some events would come, and why."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit, urlunsplit

from cyclopts import Parameter
from msgspec.structs import replace

from evstream.cli.printing import print_json, print_pairs, print_table, size_text
from evstream.cli.service import DEFAULT_DOOR, Door, find_service, run_async
from evstream.domain.errors import RequestError
from evstream.wire.delivery_messages import ChoiceView, NewPlan, PlanView
from evstream.wire.messages import NewSlice
from evstream.wire.replica_lists import metalink, pool_file_catalog

COLUMNS = (
    "edge",
    "seconds",
    "round trips",
    "queue",
    "transfer",
    "making",
    "room",
    "second copy",
    "link",
    "why",
)


def plan(
    dataset: Annotated[str, Parameter(help="A registered dataset.")],
    lfn: Annotated[str, Parameter(help="File of the dataset; '' for the only one.")] = "",
    start: Annotated[int, Parameter(help="First entry.")] = 0,
    stop: Annotated[int, Parameter(help="Entry after the last one; -1 for all.")] = -1,
    *,
    tree: Annotated[str, Parameter(help="Tree, where there are several.")] = "",
    branches: Annotated[
        tuple[str, ...],
        Parameter(consume_multiple=True, negative="", help="Globs of branches; default all."),
    ] = (),
    site: Annotated[str | None, Parameter(help="Where the client is.")] = None,
    explain: Annotated[
        bool, Parameter(negative="", help="Show every edge, and what it would take there.")
    ] = False,
    as_metalink: Annotated[
        bool, Parameter(name="--metalink", negative="", help="Print a metalink (RFC 5854).")
    ] = False,
    as_pfc: Annotated[
        bool, Parameter(name="--pfc", negative="", help="Print a PoolFileCatalog.xml.")
    ] = False,
    door: Door = DEFAULT_DOOR,
) -> None:
    """Show from where some entries of a file would be delivered, best first.

    URLs are shown without their signatures, and no edge answers those: --json, --metalink and --pfc
    print whole ones.

    For example:

        evstream plan user:dimuons a.root 0 1000 --site LYON --explain
    """
    if explain + as_metalink + as_pfc + door.json > 1:
        raise RequestError(
            "several ways to print", hint="choose --explain, --metalink, --pfc or --json"
        )
    here = door.settings().site if site is None else site
    wanted = NewSlice(dataset, lfn, tree, start, stop, list(branches))
    asked = NewPlan([wanted], site=here, explain=explain or door.json)
    (found,) = door.ask(lambda service: service.plans.plan(asked))
    if door.json:
        print_json(found)
    elif as_metalink:
        print(metalink([_reachable(found, door)]), end="")
    elif as_pfc:
        print(pool_file_catalog([_reachable(found, door)]), end="")
    else:
        _print(found, explain=explain)


def _print(found: PlanView, *, explain: bool) -> None:
    size = f"{size_text(found.size)}" if found.size else f"about {size_text(found.estimate)}"
    print_pairs([("key", found.key), ("size", size), ("sha256", found.sha256 or "not made yet")])
    if explain:
        print_table(COLUMNS, [_row(choice) for choice in found.choices])
    rows = [
        (place, one.site or "-", _bare(one.url)) for place, one in enumerate(found.endpoints, 1)
    ]
    print_table(["", "site", "URL, without its signature"], rows)


def _row(choice: ChoiceView) -> tuple[str, ...]:
    if choice.refused:
        return (choice.edge, "-", *[""] * 6, "", choice.reason)
    terms = (
        choice.seconds,
        choice.trips_s,
        choice.queue_s,
        choice.transfer_s,
        choice.making_s,
        choice.room_s,
        choice.away_s,
    )
    link = "measured" if choice.measured else "supposed"
    return (choice.edge, *(f"{term:.3f}" if term else "0" for term in terms), link, choice.reason)


def _bare(url: str) -> str:
    """Return a URL without its query, in which its signature is."""
    return urlunsplit(urlsplit(url)._replace(query=""))


def _reachable(found: PlanView, door: Door) -> PlanView:
    """Return a plan with whole URLs only, for software that knows nothing of the service."""
    settings = door.settings()

    async def address() -> str:
        return (await find_service(settings, settings.patience_s)).url

    base = run_async(address).rstrip("/")
    whole = []
    for one in found.endpoints:
        if not one.url.startswith("/"):
            whole.append(one)
        elif not base.startswith("unix:"):
            whole.append(replace(one, url=base + one.url))
    if not whole:
        raise RequestError(
            "the service is behind a Unix socket, which no URL of other software names",
            hint="serve it on a port, with 'evstream serve --port', or start an edge",
        )
    return replace(found, endpoints=whole)
