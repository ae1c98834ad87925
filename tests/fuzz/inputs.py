"""Small sound files for the fuzzer to begin with, made when it runs.

``python -m tests.fuzz.inputs FOLDER`` writes them: a folder a target, and ``base``, what
targets build upon.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import awkward as ak
import numpy as np
import uproot

from evstream import rootio
from evstream.adapters.formats import KnownFormats
from evstream.domain.dataset import Fingerprint
from evstream.domain.descriptor import slice_of
from evstream.eventindex import IndexedFile, open_builder
from evstream.rootio.compression import decompress
from evstream.rootio.container import Window, read_record
from evstream.rootio.source import BytesSource, drive
from evstream.wire.receipt_signature import ReceiptSigner

ENTRIES = 24

LHE = b"""<LesHouchesEvents version="3.0">
<!-- <event> -->
<header><initrwgt><weight id='1'>up</weight></initrwgt><![CDATA[ <event> ]]></header>
<init>
 2212 2212 6.5E+03 6.5E+03 0 0 7 7 3 1
</init>
<event npLO=" -1 ">
 1 1 1. 1. 1. 1.
<rwgt><wgt id='1'>1.0</wgt></rwgt>
</event>
<!-- between -->
<event>
</event></LesHouchesEvents>
#end
"""
HEPMC3 = b"""HepMC::Version 3.02.05
HepMC::Asciiv3-START_EVENT_LISTING
W 1
N name
T tool\\|1\\|words
E 0 0 0
U GEV MM
E 1 0 0
U GEV MM
HepMC::Asciiv3-END_EVENT_LISTING

"""
HEPMC2 = b"""
HepMC::Version 2.06.09
HepMC::IO_GenEvent-START_EVENT_LISTING
E 0 0 9.1e+01 1.2e-01 7.8e-03 221 0 0 0 0 0 1 1.0
N 1 "0"
U GEV MM
HepMC::IO_GenEvent-END_EVENT_LISTING
"""
RECEIPT = {
    "evstream_receipt": 1,
    "task": {"id": 1, "state": "aborted", "tree": "Events", "events_per_range": 10, "merge": True},
    "files": [
        {"lfn": "a.root", "pfns": [], "fingerprint": {"size": 9, "uuid": "", "digest": "ab"},
         "entries": 30, "asked": [[0, 20]]},
    ],
    "commits": [["a.root", 0, 10, 1, [0]], ["a.root", 10, 15, 1, [1]]],
    "set_aside": [["a.root", 15, 18, "bad"]],
    "cancelled": [["a.root", 18, 20, "cancelled"]],
    "outputs": [
        {"stream": "output", "name": name, "file": f"{name}.root", "size": 1, "sha256": "ab",
         "entries": {"Events": entries}, "merged_into": merged_into}
        for name, entries, merged_into in (("x", 10, 2), ("y", 5, 2), ("z", 15, None))
    ],
    "counts": {
        "events": 20, "committed": 15, "ranges": 2, "ranges_committed": 2, "set_aside": 3,
        "cancelled": 2, "attempts": 2, "failed_attempts": 0, "cpu_s": 1.5, "lost_cpu_s": 0.0,
        "bytes_delivered": 5, "bytes_of_source": 9,
    },
}  # fmt: skip


def root_file(compression: object = None) -> bytes:
    """Return a ROOT file with a jagged tree, a tree in a directory and a histogram."""
    rng = np.random.default_rng(1)
    with (
        tempfile.NamedTemporaryFile(suffix=".root") as out,
        uproot.recreate(out.name, compression=compression) as file,
    ):
        for name in ("Events", "deep/er/other"):
            file.mktree(name, {"x": "f8", "jet": "var * float32", "fixed": ("i2", (3,))})
            for _ in range(3):
                sizes = rng.integers(0, 4, ENTRIES // 3)
                jets = ak.unflatten(np.arange(sizes.sum(), dtype=np.float32), sizes)
                fixed = np.ones((len(sizes), 3), np.int16)
                file[name].extend(
                    {
                        "x": np.arange(len(sizes)) * 0.5,
                        "njet": sizes.astype("i4"),
                        "jet": jets,
                        "fixed": fixed,
                    }
                )
        file["histogram"] = np.histogram(rng.normal(size=100), bins=4)
        file.file.sink.flush()
        return Path(out.name).read_bytes()


def rntuple_file() -> bytes:
    """Return a ROOT file with an RNTuple in two clusters."""
    with tempfile.NamedTemporaryFile(suffix=".root") as out:
        with uproot.recreate(out.name, compression=None) as file:
            jets = ak.Array([[1.0, 2.0], [], [3.0], []])
            content = {"x": np.arange(4) * 0.5, "jet": jets, "n": np.arange(4, dtype=np.int16)}
            ntuple = file.mkrntuple("Events", content)
            ntuple.extend(content)
        return Path(out.name).read_bytes()


def event_index() -> tuple[bytes, bytes]:
    """Return the manifest of an event index of two files, and its one segment."""
    with tempfile.TemporaryDirectory() as folder:
        with open_builder(Path(folder)) as builder:
            for number in range(2):
                events = np.arange(ENTRIES, dtype=np.uint64) * (number + 1)
                file = IndexedFile(
                    0, f"{number}.root", f"guid-{number}", (f"/{number}.root",), "root", 9,
                    f"uuid-{number}", f"digest-{number}", "Events", ENTRIES, ("run", "event"),
                    datasets=("user:x",),
                )  # fmt: skip
                builder.add(file, events % 3, events % 4, events)
        (segment,) = Path(folder).glob("*.segment")
        manifest = Path(folder, "manifest.json").read_bytes()
        return manifest.replace(segment.name.encode(), b"0.segment"), segment.read_bytes()


def _root_records(content: bytes) -> tuple[bytes, bytes]:
    """Return a file's class descriptions and one tree's record, decompressed."""
    source = BytesSource(content)
    index = rootio.inspect(source)
    assert index.streamers is not None
    streamers = decompress(index.streamers.payload, index.streamers.key.object_bytes)
    ((key, payload),) = drive(
        read_record(Window(len(content)), [index.trees["Events"].key]), source
    )
    return bytes(streamers), bytes(decompress(payload, key.object_bytes))


def write(folder: Path) -> None:
    """Write the inputs of all targets."""
    plain, packed = root_file(), root_file(uproot.ZLIB(1))
    streamers, tree = _root_records(plain)
    lhe = KnownFormats().named("lhe")
    kept = lhe.inspect(BytesSource(LHE)).to_bytes()
    manifest, segment = event_index()
    descriptor = slice_of(Fingerprint(10, "uuid", "ab" * 32), "Events", (0, 5), ("x",))
    receipt = ReceiptSigner(b"k" * 32).sign(RECEIPT)
    files = {
        "base": [plain, rntuple_file(), manifest, segment],
        "rntuple": [bytes(range(60))],
        "root_file": [plain, packed],
        "root_join": [plain],
        "root_streamers": [streamers],
        "root_tree": [tree],
        "root_baskets": [bytes(64)],
        "root_index": [rootio.inspect(BytesSource(plain)).to_bytes()],
        "lhe": [LHE],
        "hepmc": [HEPMC3, HEPMC2],
        "gzip_text": [bytes(range(64))],
        "parquet_columns": [bytes(range(1, 40))],
        "hdf5_layout": [bytes(range(1, 40))],
        "kept_index": [kept],
        "descriptor": [descriptor.canonical_bytes],
        "receipt": [json.dumps(receipt).encode()],
        "event_manifest": [manifest],
        "event_segment": [segment],
        "event_sections": [b"\x00" * 9, bytes(range(90))],
        "messages": [b'{"name": "user:x", "files": [{"pfn": "a.root"}]}', b"bytes=0-5"],
    }
    for name, contents in files.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number, content in enumerate(contents):
            (folder / name / f"seed{number}").write_bytes(content)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
