"""``evstream dataset``: register files, and look them up."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from evstream.cli.printing import print_json, print_table, size_text
from evstream.cli.service import DEFAULT_DOOR, Door
from evstream.client.inputs import expand_inputs
from evstream.wire.messages import DatasetView, NewDataset


def add(
    name: Annotated[str, Parameter(help="scope:name; without a scope, 'user' is taken.")],
    *inputs: Annotated[str, Parameter(help="Files, globs, folders, URLs, a coffea fileset.")],
    dataset: Annotated[str, Parameter(help="Which dataset of a coffea fileset.")] = "",
    door: Door = DEFAULT_DOOR,
) -> None:
    """Register files under a name. Each is read once and refused later if it changes.

    For example:

        evstream dataset add user:dimuons /data/Run2012B_*.root
    """
    new = NewDataset(expand_inputs(list(inputs), dataset), name)
    _print(
        door.ask(lambda service: service.add_dataset(new)),
        json=door.json,
    )


def show(
    name: Annotated[str, Parameter(help="Name of a dataset.")],
    *,
    door: Door = DEFAULT_DOOR,
) -> None:
    """Show the files of a dataset.

    For example:

        evstream dataset show user:dimuons
    """
    _print(door.ask(lambda service: service.dataset(name)), json=door.json)


def list_all(*, door: Door = DEFAULT_DOOR) -> None:
    """List all datasets.

    For example:

        evstream dataset list --json
    """
    lines = door.ask(lambda service: service.datasets())
    if door.json:
        print_json(lines)
    else:
        rows = [(line.name, line.files, size_text(line.size)) for line in lines]
        print_table(["dataset", "files", "size"], rows)


def _print(view: DatasetView, *, json: bool) -> None:
    if json:
        print_json(view)
        return
    rows = [
        (
            file.lfn,
            size_text(file.fingerprint.size),
            ", ".join(f"{tree} {entries}" for tree, entries in file.trees.items()),
            file.guid,
        )
        for file in view.files
    ]
    print_table(["file", "size", "trees and entries", "GUID"], rows, title=view.name)
