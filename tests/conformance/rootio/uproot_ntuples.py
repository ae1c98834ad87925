"""Compare RNTuples as uproot reads them, every field and every entry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import uproot

from tests.conformance.rootio.uproot_compare import same_arrays

# uproot 5.7 takes the positions in a variant's switch, which count from the cluster's
# first, for those of the whole file, and mixes up columns that are stored in turns.
MISREAD_BY_UPROOT = ("variant", "turns_")


def equal_by_uproot(source: Path, ntuple: str, chosen: Any, product: Path) -> tuple[int, list[str]]:
    """Compare all fields of a product with the chosen entries of its source.

    Returns
    -------
    compared, unreadable
        Number of equal fields, and names of those that uproot cannot read even in
        the source.

    Raises
    ------
    AssertionError
        Naming the fields that differ.
    """
    compared, unreadable, different = 0, [], []
    with uproot.open(source) as one, uproot.open(product) as two:
        mine, made = one[ntuple], two[ntuple]
        known = list(mine.keys())
        names = list(made.keys())
        for name in names:
            below = [one for one in known if one.startswith(f"{name}.")]
            if any(one not in names for one in below):
                continue  # some members of a record: they are compared one by one
            if any(word in name for word in MISREAD_BY_UPROOT):
                unreadable.append(name)
                continue
            expected = _array(mine, name, chosen)
            if expected is None:
                unreadable.append(name)
                continue
            found = _array(made, name, None)
            if found is not None and _same(expected, found):
                compared += 1
            else:
                different.append(name)
    assert not different, f"{product} differs from {source} in {different[:20]}"
    return compared, unreadable


def _array(ntuple: Any, name: str, chosen: Any) -> Any:
    try:
        array = ntuple[name].array()
        array = array if chosen is None else array[chosen]
        return ak.to_packed(ak.materialize(array))
    except Exception:  # noqa: BLE001 - whatever uproot cannot read in the source either
        return None


def _same(one: Any, other: Any) -> bool:
    # Unions and options may be laid out in several ways; their values may not.
    return same_arrays(one, other) or (
        one.type == other.type and repr(one.to_list()) == repr(other.to_list())
    )
