"""What is done with events: the bits of all values are summed, and CPU is burnt for each event.

Sums of bits are exact and do not depend on the order, so that those of ranges add up to those of
files, whoever has read them. ``python -m bench.wan_parts.work CPU_S_PER_ENTRY BRANCH,BRANCH,...
URL...`` reads whole files by uproot and prints them; `process` is the payload of a range.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evstream.payload import Unit

TREE = "Events"
BITS = 1 << 64
Sums = dict[str, list[int]]
"""By branch, the count of its values and the sum of their bits."""


def read(path: str, branches: list[str], burn_s: float) -> Sums:
    """Sum up a file's entries, and burn so much CPU for each."""
    import awkward as ak
    import numpy as np
    import uproot

    with uproot.open(path) as file:
        arrays: Any = file[TREE].arrays(branches)
    sums = {}
    for name in branches:
        values = ak.to_numpy(ak.flatten(arrays[name], axis=None))
        bits = values.view(f"u{values.itemsize}")
        sums[name] = [len(bits), int(bits.sum(dtype=np.uint64))]
    until = time.thread_time() + burn_s * len(arrays)
    while time.thread_time() < until:
        sum(range(2000))
    return sums


def added(parts: Iterable[Mapping[str, list[int]]]) -> Sums:
    """Add sums up."""
    total: Sums = {}
    for part in parts:
        for name, (count, bits) in part.items():
            before = total.get(name, [0, 0])
            total[name] = [before[0] + count, (before[1] + bits) % BITS]
    return total


def initialise() -> None:
    """Load what reads, once for all workers."""
    import awkward  # noqa: F401
    import uproot  # noqa: F401


def process(unit: Unit) -> None:
    """Sum a range up; what to do is in the environment."""
    branches, burn_s = os.environ["WAN_BRANCHES"].split(","), float(os.environ["WAN_BURN_S"])
    unit.output.write_text(json.dumps(read(str(unit.input), branches, burn_s)))


if __name__ == "__main__":
    if len(sys.argv) == 1:
        from evstream.payload import serve

        serve(process, initialise)
    else:
        wanted = sys.argv[2].split(",")
        print(json.dumps(added(read(url, wanted, float(sys.argv[1])) for url in sys.argv[3:])))
        sys.stdout.flush()
