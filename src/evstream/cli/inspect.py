"""``evstream inspect``: what a file of events holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from evstream.cli.printing import print_json, print_pairs, print_table, size_text
from evstream.cli.service import Json

if TYPE_CHECKING:
    from evstream.ports.format import FileIndex, ObjectInfo, TreeInfo


def inspect(
    file: Annotated[Path, Parameter(help="A ROOT, Parquet, HDF5, LHE or HepMC file.")],
    *,
    json: Json = False,
) -> None:
    """Show a file's trees with their branches, and its other objects.

    Needs no service. Of ROOT and Parquet files no more than the metadata is read. Of ROOT
    files it also shows what becomes of each tree and object beside another tree's entries.

    For example:

        evstream inspect nano.root
    """
    from evstream import rootio
    from evstream.assembly import make_formats
    from evstream.cli.cut import file_error

    try:
        with rootio.FileSource(file) as source:
            file_format, index = make_formats().inspect(source, str(file))
    except OSError as error:
        raise file_error(error) from error
    trees, objects, notes = _rules(index)
    if json:
        print_json(
            {
                "file": str(file),
                "format": file_format.name,
                "size": index.size,
                "uuid": index.uuid,
                "fingerprint": index.fingerprint,
                "trees": [
                    _plain(tree, rule)
                    for tree, rule in zip(index.trees.values(), trees, strict=True)
                ],
                "unreadable": dict(index.unreadable),
                "objects": [
                    _plain_object(one, rule)
                    for one, rule in zip(index.objects, objects, strict=True)
                ],
                "notes": list(notes),
            }
        )
        return
    about = [("file", file), ("format", file_format.name), ("size", size_text(index.size))]
    print_pairs([*about, *([("uuid", index.uuid)] if index.uuid else [])])
    for tree, rule in zip(index.trees.values(), trees, strict=True):
        _print_tree(tree, rule)
    if objects:
        rows = [
            (one.path, one.class_name, size_text(one.nbytes), rule)
            for one, rule in zip(index.objects, objects, strict=True)
        ]
        print_table(("object", "class", "compressed", "rule"), rows)
    for path, why in index.unreadable.items():
        print(f"{path} cannot be cut: {why}")
    for note in notes:
        print(f"after any cut or join: {note}")


def _rules(index: FileIndex) -> tuple[list[str], list[str], Sequence[str]]:
    """Return the rules of trees and of objects, and notes on any product; "" where none."""
    from evstream import rootio

    if not isinstance(index, rootio.SourceIndex):
        return [""] * len(index.trees), [""] * len(index.objects), ()
    rules = rootio.Rules()
    trees = [str(rules.of_tree(tree)) for tree in index.trees.values()]
    objects = [str(rules.of_object(one.path, one.class_name)) for one in index.objects]
    return trees, objects, rootio.file_notes(index)


def _print_tree(tree: TreeInfo, rule: str) -> None:
    size = size_text(sum(b.compressed_bytes for b in tree.branches))
    clusters = len(tree.clusters) - 1
    title = f"{tree.path}: {tree.entries} entries"
    if tree.branches:
        print_table(
            ("branch", "type", "compressed", "baskets"),
            [(b.name, b.type, size_text(b.compressed_bytes), b.baskets) for b in tree.branches],
            title=f"{title}, clusters: {clusters}, {size}",
        )
    else:
        print(f"{title}, to be had whole")
    if rule:
        print(f"beside another tree: {rule}")
    for note in tree.notes:
        print(f"cuts leave behind: {note}")


def _plain(tree: TreeInfo, rule: str) -> dict[str, Any]:
    return {
        "path": tree.path,
        "rule": rule,
        "entries": tree.entries,
        "clusters": tree.clusters.tolist(),
        "left_behind": list(tree.notes),
        "branches": [
            {
                "name": b.name,
                "type": b.type,
                "title": b.title,
                "compressed_bytes": b.compressed_bytes,
                "baskets": b.baskets,
            }
            for b in tree.branches
        ],
    }


def _plain_object(one: ObjectInfo, rule: str) -> dict[str, Any]:
    return {
        "path": one.path,
        "class": one.class_name,
        "compressed_bytes": one.nbytes,
        "rule": rule,
    }
