"""Picking: the entries that a dataset asks for, out of all of its files, as one file."""

from __future__ import annotations

import tempfile
from pathlib import Path

from evstream.client.service import Service
from evstream.domain.errors import NotFoundError, RequestError
from evstream.ports import Formats
from evstream.wire.messages import STEPS_MAX, DatasetView, FileView, NewSlice


def slices_to_pick(view: DatasetView, lfn: str, tree: str, branches: list[str]) -> list[NewSlice]:
    """Return the slices that together are what a dataset asks for, in the order of its files.

    Parameters
    ----------
    lfn : str
        The one file to pick from; empty for all.

    Raises
    ------
    NotFoundError
        There is no such file, or no such tree in one.
    RequestError
        Several trees are asked for, and none is named.
    """
    files = [file for file in view.files if lfn in ("", file.lfn)]
    if not files:
        raise NotFoundError(f"{view.name} has no file {lfn}", hint="see 'evstream dataset show'")
    asked = {name for file in files for name in file.asked}
    if not tree and len(asked) > 1:
        raise RequestError(
            f"{view.name} asks for entries of {', '.join(sorted(asked))}",
            hint="choose one with --tree",
        )
    tree = tree or next(iter(asked), "")
    if not tree:
        return [NewSlice(view.name, lfn, branches=branches)]
    slices = []
    for file in files:
        steps = _wanted(file, tree)
        for first in range(0, len(steps), STEPS_MAX):
            some = steps[first : first + STEPS_MAX]
            slices.append(NewSlice(view.name, file.lfn, tree, branches=branches, steps=some))
    return slices


def _wanted(file: FileView, tree: str) -> list[tuple[int, int]]:
    if tree not in file.trees:
        raise NotFoundError(f"{file.lfn} has no tree {tree}", hint=f"it has {list(file.trees)}")
    whole = [(0, file.trees[tree])] if file.trees[tree] else []
    return file.asked.get(tree, whole)


async def pick(
    service: Service, formats: Formats, slices: list[NewSlice], output: Path
) -> list[str]:
    """Fetch slices and join them into one file; return the keys of their products.

    Raises
    ------
    RequestError
        There are none.
    DataError
        They cannot be joined: their files differ.
    """
    if not slices:
        raise RequestError("no entries are asked for", hint="give a selection of some")
    if len(slices) == 1:
        plan = await service.describe_slice(slices[0])
        await service.fetch_product(plan, output)
        return [plan.key]
    with tempfile.TemporaryDirectory(prefix=".evstream-", dir=output.parent) as scratch:
        parts, keys, format_ = [], [], ""
        for number, each in enumerate(slices):
            plan = await service.describe_slice(each)
            format_ = str(plan.descriptor["format"])
            parts.append(Path(scratch) / f"{number}.{format_}")
            await service.fetch_product(plan, parts[-1])
            keys.append(plan.key)
        names = [each.lfn for each in slices]
        formats.named(format_).join(parts, output, names=names)
    return keys
