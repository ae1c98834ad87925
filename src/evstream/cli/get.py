"""``evstream get``: a product to a file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from msgspec.structs import replace

from evstream.cli.printing import print_json, size_text
from evstream.cli.service import DEFAULT_DOOR, Door
from evstream.client import Service
from evstream.client.inputs import tree_of_inputs
from evstream.client.picking import pick, slices_to_pick
from evstream.client.registering import register
from evstream.domain.errors import ConfigError, RequestError
from evstream.wire.messages import NewSlice


def get(
    dataset: Annotated[
        str, Parameter(help="A registered dataset, or a coffea fileset such as a selection.")
    ],
    output: Annotated[Path, Parameter(help="File to write.")],
    *,
    lfn: Annotated[str, Parameter(help="File of the dataset, where it has several.")] = "",
    tree: Annotated[str, Parameter(help="Tree, where there are several.")] = "",
    entries: Annotated[
        str | None,
        Parameter(
            help="START:STOP, half-open; either may be left out. Default: what the dataset asks "
            "for, of all its files; all of a file where it asks for nothing."
        ),
    ] = None,
    branches: Annotated[
        tuple[str, ...],
        Parameter(consume_multiple=True, negative="", help="Globs of branches; default all."),
    ] = (),
    door: Door = DEFAULT_DOOR,
) -> None:
    """Fetch exactly some entries and branches of registered files.

    For example:

        evstream get user:dimuons cut.root --entries 100:200 --branches 'Muon_*'
        evstream get picked.json picked.root
    """
    start, stop = parse_entries(entries or ":")
    if output.exists() and not output.is_file():
        raise RequestError(f"{output} is no regular file", hint="name a file to write")
    # A link is followed, not replaced.
    target = output.resolve()
    partial = target.with_name(f".{target.name}.partial")

    asked = NewSlice(dataset, lfn, tree, start, stop, list(branches))

    async def work(service: Service) -> list[str]:
        return await _fetch(service, asked, partial, wanted_only=entries is None)

    try:
        keys = door.ask(work)
        partial.replace(target)
        size = target.stat().st_size
    except OSError as error:
        raise ConfigError(f"cannot write {output}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)
    if door.json:
        told = {"key": keys[0]} if len(keys) == 1 else {"keys": keys}
        print_json({**told, "file": str(output), "size": size})
    elif len(keys) == 1:
        print(f"{output}: {size_text(size)}, product {keys[0]}")
    else:
        print(f"{output}: {size_text(size)}, {len(keys)} products joined")


async def _fetch(
    service: Service, asked: NewSlice, target: Path, *, wanted_only: bool
) -> list[str]:
    """Fetch a slice, or what its dataset asks for; return the products' keys."""
    from evstream.assembly import make_formats

    if asked.dataset.endswith(".json"):
        tree = asked.tree or tree_of_inputs([asked.dataset])
        asked = replace(asked, dataset=await register(service, [asked.dataset]), tree=tree)
    slices = [asked]
    if wanted_only:
        view = await service.dataset(asked.dataset)
        if any(file.asked for file in view.files):
            slices = slices_to_pick(view, asked.lfn, asked.tree, asked.branches)
    return await pick(service, make_formats(), slices, target)


def parse_entries(text: str) -> tuple[int, int]:
    """Read ``START:STOP``; a missing stop is -1, the end."""
    # No file holds as many entries as 18 digits count.
    found = re.fullmatch(r"([0-9]{0,18}):([0-9]{0,18})", text)
    if found is None:
        raise RequestError(
            f"{text!r} is no range of entries", hint="give START:STOP, as in 100:200"
        )
    return int(found[1] or 0), int(found[2] or -1)
