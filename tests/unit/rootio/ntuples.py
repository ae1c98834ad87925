"""Small RNTuples, made by uproot, and their envelopes laid open."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import awkward as ak
import numpy as np
import uproot

from evstream import rootio
from evstream.rootio.rntuple.anchor import Link
from evstream.rootio.rntuple.envelope import CHECKSUM_BYTES, checksum

ENTRIES = 300
SEED = 11
Change = Callable[[bytearray], None]


def make_ntuple(path: Path, *, compression: uproot.compression.Compression | None = None) -> Path:
    """Write numbers, strings, nested lists, records and options, in several clusters."""
    rng = np.random.default_rng(SEED)
    with uproot.recreate(path, compression=compression) as file:
        ntuple = None
        for start in range(0, ENTRIES, 70):
            count = min(70, ENTRIES - start)
            sizes = rng.integers(0, 5, count)
            inner = rng.integers(0, 3, int(sizes.sum()))
            values = rng.normal(size=int(inner.sum())).astype(np.float32)
            data = {
                "number": np.arange(start, start + count),
                "flag": rng.integers(0, 2, count).astype(np.bool_),
                "text": ak.Array(["x" * (k % 4) for k in range(count)]),
                "nested": ak.unflatten(ak.unflatten(values, inner), sizes),
                "point": ak.zip({"x": rng.normal(size=count), "y": rng.normal(size=count)}),
            }
            if ntuple is None:
                ntuple = file.mkrntuple("events", data)
            else:
                ntuple.extend(data)
    return path


def envelope_links(data: bytes) -> list[Link]:
    """Return where header, footer and page lists are, of a file without compression."""
    index = rootio.inspect(rootio.BytesSource(data)).ntuples["events"]
    lists = []
    footer = index.anchor.footer
    raw = data[footer.offset : footer.offset + footer.size]
    # The cluster groups are the last frames: 12 bytes of list, 48 bytes each with a link.
    groups = len(index.groups) - 1
    at = raw.rindex((-(12 + 48 * groups)).to_bytes(8, "little", signed=True))
    for number in range(groups):
        link = at + 12 + 48 * number + 28
        length = int.from_bytes(raw[link : link + 8], "little")
        size = int.from_bytes(raw[link + 8 : link + 12], "little")
        offset = int.from_bytes(raw[link + 12 : link + 20], "little")
        lists.append(Link(offset, size, length))
    return [index.anchor.header, footer, *lists]


def with_changed(data: bytes, links: list[Link], which: int, change: Change) -> bytes:
    """Change the contents of an envelope, and set all checksums right again."""
    out = bytearray(data)

    def seal(link: Link) -> bytes:
        stop = link.offset + link.size - CHECKSUM_BYTES
        out[stop : stop + CHECKSUM_BYTES] = checksum(bytes(out[link.offset : stop]))
        return bytes(out[stop : stop + CHECKSUM_BYTES])

    start, stop = links[which].offset + 8, links[which].offset + links[which].size - CHECKSUM_BYTES
    contents = bytearray(out[start:stop])
    change(contents)
    out[start:stop] = contents
    header = seal(links[0])
    if which == 0:
        out[links[1].offset + 16 : links[1].offset + 24] = header
        for link in links[2:]:
            out[link.offset + 8 : link.offset + 16] = header
    for link in links[1:]:
        seal(link)
    return bytes(out)
