"""``evstream config``: settings, and where each came from."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from cyclopts import Parameter

from evstream.cli.printing import print_json, print_table
from evstream.cli.service import Json
from evstream.settings import Settings, resolve


def show(
    *,
    origin: Annotated[
        bool, Parameter(negative="", help="Say where each value comes from.")
    ] = False,
    json: Json = False,
) -> None:
    """Show every setting. Flag beats EVSTREAM_NAME beats config.toml beats default.

    For example:

        evstream config show --origin
    """
    resolved = resolve({})
    values = dataclasses.asdict(resolved.settings)
    if values["token"]:
        values["token"] = "(set)"  # noqa: S105 - hides it
    if json:
        print_json(
            {
                name: {"value": value, "origin": resolved.origins[name]} if origin else value
                for name, value in values.items()
            }
        )
        return
    docs = {item.name: item.metadata["doc"] for item in dataclasses.fields(Settings)}
    columns = ["setting", "value", *(["origin"] if origin else []), "meaning"]
    rows = [
        (name, str(value), *([resolved.origins[name]] if origin else []), docs[name])
        for name, value in values.items()
    ]
    print_table(columns, rows)
