"""``evstream edge``: where products are."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from cyclopts import Parameter

from evstream.cli.printing import print_json, print_table, size_text
from evstream.cli.service import DEFAULT_DOOR, Door
from evstream.domain.products import Edge as Place
from evstream.domain.products import PlaceKind
from evstream.wire.product_messages import Beat

Edge = Annotated[str, Parameter(help="Name of an edge or store.")]


def add(
    name: Edge,
    address: Annotated[str, Parameter(help="URL where it is reached.")],
    *,
    kind: Annotated[PlaceKind, Parameter(help="What it is.")] = "store",
    capacity_bytes: Annotated[int, Parameter(help="Room for products; 0: not known.")] = 0,
    door: Door = DEFAULT_DOOR,
) -> None:
    """Say that a store is there, which does not do so itself; again changes what is known of it.

    For example:

        evstream edge add tape root://tape.example.org//products
    """
    beat = Beat(address, kind, capacity_bytes)
    edge = door.ask(lambda service: service.prepared.beat(name, beat))
    if door.json:
        print_json(edge)


def list_all(*, door: Door = DEFAULT_DOOR) -> None:
    """List the edges and stores that have said they are there, and what they have.

    For example:

        evstream edge list
    """
    edges = door.ask(lambda service: service.prepared.edges())
    if door.json:
        print_json(edges)
        return
    rows = [
        (
            edge.name,
            edge.kind,
            edge.url,
            edge.products,
            size_text(edge.bytes),
            _room(edge),
            _seconds_left(edge.alive_until),
            edge.state + (f": {edge.reason}" if edge.reason else ""),
        )
        for edge in edges
    ]
    print_table(["name", "kind", "URL", "products", "bytes", "room", "alive for", "state"], rows)


def _room(edge: Place) -> str:
    """Return what an edge has room for still; of a store, all that it was said to have."""
    if edge.kind == "edge":
        return size_text(edge.status.free_bytes)
    return size_text(edge.capacity_bytes) if edge.capacity_bytes else "-"


def drain(
    name: Edge,
    *,
    reason: Annotated[str, Parameter(help="Why, for who looks later.")] = "",
    door: Door = DEFAULT_DOOR,
) -> None:
    """Give an edge no new work; what it holds is still served from it.

    For example:

        evstream edge drain T2_DE --reason 'disks are replaced'
    """
    door.ask(lambda service: service.edges.set_state(name, "draining", reason))


def maintain(
    name: Edge,
    *,
    reason: Annotated[str, Parameter(help="Why, for who looks later.")] = "",
    door: Door = DEFAULT_DOOR,
) -> None:
    """Send nobody to an edge; it serves nobody either.

    For example:

        evstream edge maintain T2_DE --reason 'kernel update'
    """
    door.ask(lambda service: service.edges.set_state(name, "maintenance", reason))


def resume(name: Edge, *, door: Door = DEFAULT_DOOR) -> None:
    """Let an edge serve again, after a drain, maintenance or quarantine.

    For example:

        evstream edge resume T2_DE
    """
    door.ask(lambda service: service.edges.set_state(name, "serving"))


def remove(name: Edge, *, door: Door = DEFAULT_DOOR) -> None:
    """Take an edge out for good; what it had is forgotten.

    For example:

        evstream edge remove tape
    """
    door.ask(lambda service: service.prepared.remove_edge(name))


def _seconds_left(until: datetime | None) -> str:
    if until is None:
        return "-"
    left = (until - datetime.now(UTC)).total_seconds()
    return f"{left:.0f} s" if left > 0 else "silent"
