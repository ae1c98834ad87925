"""What uproot does with a range of entries: read it and write it."""

from __future__ import annotations

from pathlib import Path

import awkward as ak
import uproot


def rewrite(source: Path, tree: str, start: int, stop: int, out: Path) -> int:
    """Read a range of entries and write it: a tree with counted arrays by collection.

    An RNTuple becomes an RNTuple.

    Returns
    -------
    int
        How many entries were written.
    """
    with uproot.open(source) as file:
        compression = file.file.compression
        held = file[tree]
        arrays = held.arrays(entry_start=start, entry_stop=stop)
        if held.classname == "ROOT::RNTuple":
            with uproot.recreate(out, compression=compression) as written:
                written.mkrntuple(tree, arrays)
            return len(arrays)
    flat: dict[str, ak.Array] = {}
    jagged: dict[str, dict[str, ak.Array]] = {}
    for name in arrays.fields:
        if arrays[name].ndim == 1:
            flat[name] = arrays[name]
        else:
            collection, _, member = name.partition("_")
            jagged.setdefault(collection, {})[member] = arrays[name]
    counters = {f"n{collection}" for collection in jagged}
    columns = {name: array for name, array in flat.items() if name not in counters}
    columns |= {name: ak.zip(members) for name, members in jagged.items()}
    with uproot.recreate(out, compression=compression) as file:
        file[tree] = columns
    return len(arrays)
