"""``evstream inspect``: what a file of events holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from evstream.cli.printing import print_json, print_pairs, print_table, size_text
from evstream.cli.service import Json

if TYPE_CHECKING:
    from evstream.ports.format import TreeInfo


def inspect(
    file: Annotated[Path, Parameter(help="A ROOT, Parquet, HDF5, LHE or HepMC file.")],
    *,
    json: Json = False,
) -> None:
    """Show a file's trees with their branches, and its other objects.

    Needs no service. Of ROOT and Parquet files no more than the metadata is read.

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
    objects = [
        {"path": o.path, "class": o.class_name, "compressed_bytes": o.nbytes} for o in index.objects
    ]
    if json:
        print_json(
            {
                "file": str(file),
                "format": file_format.name,
                "size": index.size,
                "uuid": index.uuid,
                "fingerprint": index.fingerprint,
                "trees": [_plain(tree) for tree in index.trees.values()],
                "unreadable": dict(index.unreadable),
                "objects": objects,
            }
        )
        return
    about = [("file", file), ("format", file_format.name), ("size", size_text(index.size))]
    print_pairs([*about, *([("uuid", index.uuid)] if index.uuid else [])])
    for tree in index.trees.values():
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
        for note in tree.notes:
            print(f"cuts leave behind: {note}")
    if objects:
        rows = [(o.path, o.class_name, size_text(o.nbytes)) for o in index.objects]
        print_table(("object", "class", "compressed"), rows)
    for path, why in index.unreadable.items():
        print(f"{path} cannot be cut: {why}")


def _plain(tree: TreeInfo) -> dict[str, Any]:
    return {
        "path": tree.path,
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
