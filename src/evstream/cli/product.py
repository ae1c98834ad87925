"""``evstream product``: what is prepared where, and what is wanted."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from evstream.cli.get import parse_entries
from evstream.cli.printing import print_json, print_pairs, print_table, size_text
from evstream.cli.service import DEFAULT_DOOR, Door
from evstream.client import Service
from evstream.wire.messages import NewSlice
from evstream.wire.product_messages import ReadyFile, ReadyRequest, RecipeView, Search

Dataset = Annotated[str, Parameter(help="A registered dataset.")]
Tree = Annotated[str, Parameter(help="Tree, where there are several.")]
Branches = Annotated[
    tuple[str, ...],
    Parameter(consume_multiple=True, negative="", help="Globs of branches; default all."),
]


def find(
    dataset: Dataset,
    *,
    lfn: Annotated[str, Parameter(help="File of the dataset, where it has several.")] = "",
    tree: Tree = "",
    entries: Annotated[str, Parameter(help="START:STOP, half-open; either may be left out.")] = ":",
    branches: Branches = (),
    door: Door = DEFAULT_DOOR,
) -> None:
    """Find the smallest prepared product that holds some entries and branches of a file.

    For example:

        evstream product find user:dimuons --lfn a.root --entries 100:200 --branches 'Muon_*'
    """
    start, stop = parse_entries(entries)
    wanted = NewSlice(dataset, lfn, tree, start, stop, list(branches))
    (found,) = door.ask(lambda service: service.prepared.search(Search([wanted])))
    if door.json:
        print_json(found)
    elif found is None:
        print("nothing prepared holds all of it", file=sys.stderr)
    else:
        print_pairs([("key", found.key), ("encoder", found.encoder_id)])
        print_pairs([("size", size_text(found.size)), ("sha256", found.sha256)])
        rows = [(place.name, place.kind, place.url) for place in found.places]
        print_table(["place", "kind", "URL"], rows)


def ready(
    dataset: Dataset, *, tree: Tree = "", branches: Branches = (), door: Door = DEFAULT_DOOR
) -> None:
    """Show which entries of a dataset are ready where, as intervals.

    For example:

        evstream product ready user:dimuons --branches 'Muon_*'
    """

    async def work(service: Service) -> list[ReadyFile]:
        files: list[ReadyFile] = []
        first: int | None = 0
        while first is not None:
            asked = ReadyRequest(dataset, tree, list(branches), first)
            answer = await service.prepared.ready(asked)
            files += answer.files
            first = answer.next
        return files

    files = door.ask(work)
    if door.json:
        print_json(files)
        return
    rows = [
        (
            file.lfn,
            edge,
            f"{sum(stop - start for start, stop in held)}/{file.entries}",
            " ".join(f"{start}:{stop}" for start, stop in held),
        )
        for file in files
        for edge, held in (file.edges or {"-": []}).items()
    ]
    print_table(["file", "edge", "ready", "entries"], rows)


def wanted(
    dataset: Annotated[str, Parameter(help="A registered dataset; default all.")] = "",
    *,
    limit: Annotated[int, Parameter(help="How many to show.")] = 20,
    door: Door = DEFAULT_DOOR,
) -> None:
    """Show what is asked for most; a request counts half as much after seven days.

    For example:

        evstream product wanted user:dimuons --limit 5
    """
    views = door.ask(lambda service: service.prepared.most_wanted(dataset, limit))
    if door.json:
        print_json(views)
        return
    rows = [
        (view.lfn or view.fingerprint.digest[:12], _recipe_text(view.recipe), view.score)
        for view in views
    ]
    print_table(["file", "recipe", "requests"], rows)


def _recipe_text(recipe: RecipeView) -> str:
    shown = ", ".join(f"{name} {_short(value)}" for name, value in recipe.parameters.items())
    return f"{recipe.name} {recipe.version} ({shown})"


def _short(value: object) -> str:
    if not isinstance(value, list):
        return str(value)
    names = ", ".join(map(str, value[:3]))
    return f"{names}, ..." if len(value) > 3 else names
