"""``evstream key``: API keys for submitters, pilots, edges and operators."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated

from cyclopts import Parameter

from evstream.cli.printing import print_json, print_table
from evstream.cli.service import DEFAULT_DOOR, Door
from evstream.domain.access import Role
from evstream.domain.errors import RequestError
from evstream.wire.access_messages import AccessKeyView

_UNITS = {"m": 60, "h": 3600, "d": 86_400}


def create(
    name: Annotated[str, Parameter(help="Who will have it.")],
    *,
    role: Annotated[Role, Parameter(help="What it may do.")],
    edge: Annotated[str, Parameter(help="With --role edge: the edge's name.")] = "",
    life: Annotated[
        str, Parameter(help="How long it is good, as in 30m, 12h or 90d; default: until revoked.")
    ] = "",
    door: Door = DEFAULT_DOOR,
) -> None:
    """Make a key and print it, this once: the service keeps a digest of it only.

    For example:

        evstream key create lyon-pilots --role pilot --life 90d > lyon.key
    """
    expires = datetime.now(UTC) + life_of(life) if life else None
    made = door.ask(lambda service: service.keys.make(role, name, edge=edge, expires=expires))
    if door.json:
        print_json({"key": made.text, "id": made.view.id, "expires": made.view.expires})
        return
    print(made.text)
    print(
        f"evstream: key {made.view.id}; who has it shows it as a token (EVSTREAM_TOKEN)",
        file=sys.stderr,
    )


def list_all(*, door: Door = DEFAULT_DOOR) -> None:
    """List all keys, and when each was last used.

    For example:

        evstream key list
    """
    keys = door.ask(lambda service: service.keys.all())
    if door.json:
        print_json(keys)
        return
    rows = [
        (key.id, key.name, key.role, key.edge or "-", _day(key.created), _state(key), _used(key))
        for key in keys
    ]
    print_table(["id", "name", "role", "edge", "made", "state", "last used"], rows)


def revoke(
    key: Annotated[str, Parameter(help="The key's id, as 'key list' shows it.")],
    *,
    door: Door = DEFAULT_DOOR,
) -> None:
    """End a key: no head takes it a few seconds from now.

    For example:

        evstream key revoke 5d2f0c9e11aa
    """
    view = door.ask(lambda service: service.keys.revoke(key))
    if door.json:
        print_json(view)


def life_of(text: str) -> timedelta:
    """Return how long ``12h`` is.

    Raises
    ------
    RequestError
    """
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not (number.isascii() and number.isdigit() and len(number) < 7):
        raise RequestError(f"{text[:20]!r} is no time", hint="give a number and m, h or d")
    return timedelta(seconds=int(number) * _UNITS[unit])


def _state(key: AccessKeyView) -> str:
    if key.revoked is not None:
        return "revoked"
    if key.expires is None:
        return "good"
    return f"until {_day(key.expires)}" if key.expires > datetime.now(UTC) else "expired"


def _used(key: AccessKeyView) -> str:
    return "never" if key.last_used is None else f"{key.last_used:%Y-%m-%d %H:%M}"


def _day(time: datetime) -> str:
    return f"{time:%Y-%m-%d}"
