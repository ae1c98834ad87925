"""What is fuzzed: each target takes any bytes to a result or to an error of our tree.

Errors of ours are caught by `attempt`; whatever else comes out of a target is a finding,
and so is a product that is not what it should be.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import io
import json
import os
import random
import struct
import tempfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import cramjam
import numpy as np
import xxhash

from evstream import rootio
from evstream.adapters.formats import KnownFormats
from evstream.adapters.formats.hdf5_layout import layout_of as hdf5_layout_of
from evstream.adapters.formats.text_stream import Search
from evstream.domain.descriptor import Descriptor
from evstream.domain.errors import EvstreamError
from evstream.domain.receipt import check_ledger
from evstream.eventindex.answers import answer
from evstream.eventindex.index import EventIndex
from evstream.eventindex.manifest import MANIFEST_NAME
from evstream.eventindex.segment_format import DTYPES, PREFIX
from evstream.eventindex.segment_format import MAGIC as SEGMENT_MAGIC
from evstream.rootio.class_plan import Plans
from evstream.rootio.index_codec import _HEAD, MAGIC, VERSION, sealed
from evstream.rootio.source import BytesSource
from evstream.rootio.streamer_info import StreamerInfos
from evstream.rootio.tree_reader import read_tree
from evstream.web.byte_ranges import parse_ranges
from evstream.wire import messages, work_messages
from evstream.wire.event_messages import EventQuestion, EventSpan
from evstream.wire.receipt_signature import check_signature
from evstream.wire.signed_urls import descriptor_from_query

INPUTS_VARIABLE = "EVSTREAM_FUZZ_INPUTS"
PIECE_BYTES = 1 << 16

Target = Callable[[bytes], None]
TARGETS: dict[str, Target] = {}
FORMATS = KnownFormats()


def target(run: Target) -> Target:
    """Enter a function into the list of targets; errors of our tree are good answers."""

    def attempt(data: bytes) -> None:
        with contextlib.suppress(EvstreamError):
            run(data)

    TARGETS[run.__name__] = attempt
    return attempt


@cache
def base() -> bytes:
    """Return the sound ROOT file that targets build upon."""
    return Path(os.environ[INPUTS_VARIABLE], "base", "seed0").read_bytes()


@cache
def base_index() -> rootio.SourceIndex:
    """Return its index."""
    return rootio.inspect(BytesSource(base()))


def use(index: rootio.SourceIndex, content: bytes) -> None:
    """Cut a piece of each tree and read it; a product of ours is one that we read."""
    source = BytesSource(content)
    for tree in list(index.trees.values())[:3]:
        stop = min(tree.entries, 17)
        start = min(3, stop)
        with contextlib.suppress(EvstreamError):
            cut = rootio.plan_cut(index, tree=tree.path, entry_start=start, entry_stop=stop)
            cut.prepare(source)
            product = cut.read(0, min(cut.size, 8 << 20), source)
            assert len(product) == min(cut.size, 8 << 20)


@target
def root_file(data: bytes) -> None:
    """Header, directories, keys, all records, then cuts."""
    index = rootio.inspect(BytesSource(data))
    use(index, data)
    rootio.SourceIndex.from_bytes(index.to_bytes())


@target
def root_join(data: bytes) -> None:
    """A sound file with another one: trees, histograms and objects that are added."""
    with tempfile.TemporaryDirectory() as folder:
        rootio.join([BytesSource(base()), BytesSource(data)], Path(folder, "out.root"))


@target
def root_streamers(data: bytes) -> None:
    """Class descriptions, and the sound tree read by them."""
    plans = Plans(StreamerInfos(data, 64))
    for name in ("TTree", "TBranch", "TH1D", "TLeafF"):
        with contextlib.suppress(EvstreamError):
            plans.bases(name)
    tree = base_index().trees["Events"]
    at = tree.key.seek + tree.key.key_bytes
    read_tree("Events", tree.key, base()[at : at + tree.key.object_bytes], plans)


@cache
def _plans() -> Plans:
    streamers = base_index().streamers
    assert streamers is not None
    return Plans(StreamerInfos(streamers.payload, streamers.key.key_bytes))


@target
def root_tree(data: bytes) -> None:
    """A tree's record."""
    tree, _ = read_tree("Events", base_index().trees["Events"].key, data, _plans())
    assert tree.entries >= 0
    assert (np.diff(tree.clusters) >= 0).all()


@target
def root_baskets(data: bytes) -> None:
    """Cuts of a sound index from a file whose baskets are not sound."""
    content = bytearray(base())
    seeks = base_index().trees["Events"].baskets
    places = sorted(zip(seeks.seek.tolist(), seeks.nbytes.tolist(), strict=True))
    for at in range(0, len(data) - 3, 4):
        (place, change) = struct.unpack_from("<HH", data, at)
        seek, nbytes = places[place % len(places)]
        if seek > 0 and nbytes > 0:
            content[seek + (change >> 8) % nbytes] ^= change & 0xFF
    use(base_index(), bytes(content))


@cache
def rntuple_base() -> tuple[bytes, list[tuple[int, int, str]]]:
    """Return a sound file with an RNTuple, and the spans in it that have checksums behind."""
    content = Path(os.environ[INPUTS_VARIABLE], "base", "seed1").read_bytes()
    spans = []
    for start in range(len(content) - 8):
        (envelope,) = struct.unpack_from("<Q", content, start)
        stop = start + (envelope >> 16) - 8
        if envelope & 0xFFFF in (1, 2, 3) and _has_checksum(content, start, stop, "little"):
            spans.append((start, stop, "little"))
        (anchor,) = struct.unpack_from(">I", content, start)
        stop = start + 4 + (anchor & 0x3FFFFFFF)
        if anchor & 0x40000000 and _has_checksum(content, start + 6, stop, "big"):
            spans.append((start + 6, stop, "big"))
    assert len(spans) >= 4, "header, footer, page list and anchor"
    return content, spans


def _has_checksum(content: bytes, start: int, stop: int, order: Any) -> bool:
    if not start < stop <= len(content) - 8:
        return False
    digest = xxhash.xxh3_64_intdigest(content[start:stop])
    return content[stop : stop + 8] == digest.to_bytes(8, order)


@target
def rntuple(data: bytes) -> None:
    """Envelopes and anchor of an RNTuple with bytes changed and checksums that fit."""
    base_bytes, spans = rntuple_base()
    content = bytearray(base_bytes)
    for at in range(0, len(data) - 2, 3):
        place, value = struct.unpack_from("<HB", data, at)
        start, stop, _ = spans[place % len(spans)]
        content[start + (place // len(spans)) % (stop - start)] = value
    for start, stop, order in spans:
        digest = xxhash.xxh3_64_intdigest(bytes(content[start:stop]))
        content[stop : stop + 8] = digest.to_bytes(8, order)  # type: ignore[arg-type]
    index = rootio.inspect(BytesSource(bytes(content)))
    use(index, bytes(content))
    rootio.SourceIndex.from_bytes(index.to_bytes())


@target
def root_index(data: bytes) -> None:
    """A kept source index, then a cut by it; and what the codec makes of any JSON."""
    with contextlib.suppress(EvstreamError):
        use(rootio.SourceIndex.from_bytes(data), base())
    content = bytes(cramjam.zstd.compress(data))
    head = _HEAD.pack(MAGIC, VERSION, len(data), len(data))
    with contextlib.suppress(TypeError, AttributeError):
        # Whoever seals an index can give it any shape; reading it still ends.
        rootio.SourceIndex.from_bytes(sealed(head + content))


def _cut_text(name: str, content: bytes) -> None:
    """Cut a text in two: header, all its events and the end must be there again."""
    source = BytesSource(content)
    text = FORMATS.named(name)
    index = text.inspect(source)
    entries = index.trees["events"].entries
    parts = []
    for start, stop in ((0, 0), (0, entries // 2), (entries // 2, entries), (0, entries)):
        cut = text.plan_cut(index, tree="events", entry_start=start, entry_stop=stop)
        cut.prepare(source)
        parts.append(cut.read(0, cut.size, source))
    empty, first, second, whole = parts
    assert whole == content
    assert len(first) + len(second) == len(whole) + len(empty)
    again = BytesSource(second)
    assert text.inspect(again).trees["events"].entries == entries - entries // 2


@target
def lhe(data: bytes) -> None:
    """Tags, comments and CDATA sections."""
    _search_in_pieces("lhe", data)
    _cut_text("lhe", data)


@target
def hepmc(data: bytes) -> None:
    """Lines."""
    _search_in_pieces("hepmc", data)
    _cut_text("hepmc", data)


def _search_in_pieces(name: str, data: bytes) -> None:
    """Find the same events whatever the pieces that the text comes in."""
    grammar: Any = FORMATS.named(name)._grammar  # type: ignore[attr-defined]
    found = []
    for size in (len(data) or 1, 7):
        pieces = (data[at : at + size] for at in range(0, len(data), size))
        try:
            found.append(grammar.event_starts(Search(pieces)))
        except EvstreamError as error:
            found.append(type(error))
    assert found[0] == found[1], found


@target
def gzip_text(data: bytes) -> None:
    """Gzip members, whole and broken, with text in them."""
    rng = random.Random(data)
    lines = b"".join(b"E %d\n" % n * rng.randrange(1, 60) for n in range(rng.randrange(60)))
    head = b"HepMC::Version 3\nHepMC::Asciiv3-START_EVENT_LISTING\n"
    text = head + lines + b"HepMC::Asciiv3-END_EVENT_LISTING\n"
    at = rng.randrange(len(text))
    packed = bytearray(gzip.compress(text[:at]) + gzip.compress(text[at:]))
    for number in range(0, len(data) - 1, 2):
        packed[(data[number] * 257 + number) % len(packed)] ^= data[number + 1]
    content = bytes(packed)
    source = BytesSource(content)
    index = FORMATS.named("hepmc.gz").inspect(source)
    entries = index.trees["events"].entries
    cut = FORMATS.named("hepmc.gz").plan_cut(
        index, tree="events", entry_start=entries // 3, entry_stop=entries
    )
    cut.prepare(source)
    zlib.decompress(cut.read(0, cut.size, source), 31)


@target
def kept_index(data: bytes) -> None:
    """The index that other formats keep."""
    parquet = FORMATS.named("parquet")
    index = parquet.load(data)
    for tree in index.trees:
        parquet.select(index, tree, ["*"])


@target
def descriptor(data: bytes) -> None:
    """Descriptors as JSON, and packed into a URL."""
    text = data.decode("utf-8", "replace")
    with contextlib.suppress(EvstreamError):
        descriptor_from_query(text, "")
    with contextlib.suppress(EvstreamError):
        packed = base64.urlsafe_b64encode(zlib.compress(data)).decode().rstrip("=")
        descriptor_from_query(packed, hashlib.sha256(data).hexdigest())
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError):
        return
    found = Descriptor.from_wire(plain)
    assert Descriptor.from_wire(found.to_wire()).key == found.key


@target
def receipt(data: bytes) -> None:
    """Receipts, with whatever signature."""
    try:
        plain = json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return
    if not isinstance(plain, dict):
        return
    with contextlib.suppress(EvstreamError):
        check_signature(plain)
    check_ledger(plain)


@cache
def event_base() -> tuple[bytes, bytes]:
    """Return the manifest and the segment of a sound event index."""
    folder = Path(os.environ[INPUTS_VARIABLE], "base")
    return (folder / "seed2").read_bytes(), (folder / "seed3").read_bytes()


def _ask(manifest: bytes, segment: bytes) -> None:
    """Open an event index and ask it all there is to ask."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, MANIFEST_NAME).write_bytes(manifest)
        Path(folder, "0.segment").write_bytes(segment)
        index = EventIndex(Path(folder))
        events = [(run, lumi, event) for run in (0, 2) for lumi in (None, 1) for event in (0, 8)]
        questions = (
            EventQuestion(events=events, spans=[EventSpan(1, 0, 99)], lumis={"1": [(0, 9)]}),
            EventQuestion(dataset="user:x", events=events, first_only=True),
            EventQuestion(guid="guid-1", spans=[EventSpan(0, 3, 1 << 63)]),
        )
        for question in questions:
            with contextlib.suppress(EvstreamError):
                messages.encode(answer(index, question))
        with contextlib.suppress(EvstreamError):
            for rows in index.duplicates(index.only()):
                assert len(rows) > 1
        assert len(index) >= 0
        assert index.nbytes >= 0
        index.check()


@target
def event_manifest(data: bytes) -> None:
    """The manifest of an event index, beside a sound segment."""
    _ask(data, event_base()[1])


@target
def event_segment(data: bytes) -> None:
    """A segment of an event index, whatever its checksums."""
    _ask(event_base()[0], data)


@target
def event_sections(data: bytes) -> None:
    """A segment with other numbers in its header and in its sections, and checksums that fit."""
    manifest, segment = event_base()
    _, length, _ = PREFIX.unpack_from(segment)
    # Room for a header that grows.
    content = bytearray(4096) + segment
    header = json.loads(segment[PREFIX.size : PREFIX.size + length])
    for section in header["sections"].values():
        section["offset"] += 4096
    places: list[tuple[dict[str, int], str]] = [(header, "file_bits"), (header, "entry_bits")]
    places += [(header["sections"][name], what) for name in DTYPES for what in ("offset", "count")]
    for at in range(0, len(data) - 8, 9):
        which, value = struct.unpack_from("<Bq", data, at)
        if which < len(places):
            holder, name = places[which]
            # Near what it was, or anything.
            holder[name] = holder[name] + value if abs(value) < 1 << 16 else value
        else:
            (section, *_) = [header["sections"][name] for name in list(DTYPES)[which % 6 :]]
            begin = max(0, min(section["offset"], len(content) - 8))
            place = begin + 8 * (which // 6 % 32)
            if place + 8 <= len(content):
                content[place : place + 8] = struct.pack("<q", value)
    for name, section in header["sections"].items():
        stop = section["offset"] + section["count"] * np.dtype(DTYPES[name]).itemsize
        if 0 <= section["offset"] <= stop <= len(content):
            section["crc32"] = zlib.crc32(content[section["offset"] : stop])
    text = json.dumps(header).encode()
    head = PREFIX.pack(SEGMENT_MAGIC, len(text), zlib.crc32(text)) + text
    _ask(manifest, head + bytes(content[len(head) :]))


KINDS = (
    messages.NewDataset,
    messages.NewTask,
    messages.NewSlice,
    messages.NewProduct,
    work_messages.ClaimRequest,
    work_messages.ClaimAnswer,
    work_messages.RenewRequest,
    work_messages.ReportRequest,
    work_messages.ReleaseRequest,
    EventQuestion,
)


@target
def messages_(data: bytes) -> None:
    """Messages of the API, and the Range header."""
    found = parse_ranges(data.decode("latin-1"), 1000)
    assert all(0 <= start < stop <= 1000 for start, stop in found or [])
    for kind in KINDS:
        with contextlib.suppress(EvstreamError):
            messages.decode(messages.encode(messages.decode(data, kind)), kind)


@target
def parquet_columns(data: bytes) -> None:
    """Tables of any shape: our names for columns, and cuts of some of them."""
    import pyarrow as pa
    from pyarrow import parquet as pq

    from evstream.adapters.formats import parquet

    rng = random.Random(data)
    schema = pa.schema([_field(pa, rng, data, depth=0) for _ in range(1 + len(data) % 4)])
    if len(set(schema.names)) < len(schema.names):
        return
    rows = [{f.name: _value(pa, rng, f) for f in schema} for _ in range(rng.randrange(9))]
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), out, row_group_size=3)
    source = BytesSource(out.getvalue())
    parquet.fingerprint(source)
    ((tree,), _) = parquet.inspect(source)
    names = [branch.name for branch in tree.branches]
    assert len(set(names)) == len(names)
    assert tree.entries == len(rows)
    start = rng.randrange(len(rows) + 1)
    with tempfile.NamedTemporaryFile() as product:
        parquet.cut(source, product.name, "events", [(start, len(rows))], None)
        whole = pq.read_table(io.BytesIO(out.getvalue()))
        assert pq.read_table(product.name).to_pylist() == whole.to_pylist()[start:]
        parquet.cut(source, product.name, "events", [(start, len(rows))], names[:1])
        found = pq.read_table(product.name)
        assert found.num_rows == len(rows) - start
        assert len(found.schema.names) == 1


def _field(pa: Any, rng: random.Random, data: bytes, depth: int) -> Any:
    """Return a field of a type that follows from the data."""
    name = rng.choice(["a", "b", "c", "list", "element", "item", "key_value", "a.b", "x y", "é"])
    nullable = rng.random() < 0.5
    choice = rng.randrange(8 if depth < 3 else 4)
    if choice < 4:
        return pa.field(name, [pa.int32(), pa.float64(), pa.string(), pa.bool_()][choice], nullable)
    inner = _field(pa, rng, data, depth + 1)
    if choice == 4:
        return pa.field(name, pa.list_(inner), nullable)
    if choice == 5:
        return pa.field(name, pa.large_list(inner), nullable)
    if choice == 6:
        other = _field(pa, rng, data, depth + 1)
        members = [inner] if other.name == inner.name else [inner, other]
        return pa.field(name, pa.struct(members), nullable)
    return pa.field(name, pa.map_(pa.string(), inner.type), nullable)


def _value(pa: Any, rng: random.Random, field: Any) -> Any:
    if field.nullable and rng.random() < 0.2:
        return None
    kind = field.type
    if pa.types.is_map(kind):
        return [(f"k{i}", _value(pa, rng, kind.item_field)) for i in range(rng.randrange(3))]
    if pa.types.is_struct(kind):
        return {kind.field(i).name: _value(pa, rng, kind.field(i)) for i in range(kind.num_fields)}
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return [_value(pa, rng, kind.value_field) for _ in range(rng.randrange(3))]
    if pa.types.is_boolean(kind):
        return rng.random() < 0.5
    return f"s{rng.randrange(5)}" if pa.types.is_string(kind) else rng.randrange(100)


@target
def hdf5_layout(data: bytes) -> None:
    """Files of any structure: which datasets have entries, and cuts of them."""
    import h5py

    from evstream.adapters.formats import hdf5

    rng = random.Random(data)
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        groups = [file["/"]]
        for _ in range(len(data) % 12):
            _grow(h5py, rng, groups)
    source = BytesSource(out.getvalue())
    trees, _ = hdf5.inspect(source)
    for tree in trees[:3]:
        start = rng.randrange(tree.entries + 1)
        with tempfile.NamedTemporaryFile() as product:
            hdf5.cut(source, product.name, tree.path, [(start, tree.entries)], None)
            with h5py.File(product.name) as made, h5py.File(out) as given:
                for member in hdf5_layout_of(given).tables[tree.path].members:
                    if member.entries >= 0 and not member.offsets:
                        found, expected = made[member.path][()], given[member.path][start:]
                        assert found.dtype == expected.dtype
                        assert found.tolist() == expected.tolist()


def _grow(h5py: Any, rng: random.Random, groups: list[Any]) -> None:
    """Add something to a file."""
    group = rng.choice(groups)
    name = rng.choice(["a", "b", "c", "a_offsets", "b_offsets", "jets"])
    if name in group:
        return
    choice = rng.randrange(7)
    length = rng.choice([0, 1, 4, 4, 4, 9])
    if choice == 0:
        groups.append(group.create_group(name))
    elif choice == 1:
        group[name] = rng.choice([h5py.SoftLink("/a"), h5py.ExternalLink("x.h5", "/a")])
    elif choice == 2:
        group[name] = rng.choice([1.5, "text", b"raw", h5py.Empty("f4")])
    elif choice == 3:
        group[name] = rng.choice(groups)
    elif choice == 4:
        offsets = np.sort(np.array([rng.randrange(length + 1) for _ in range(5)]))
        offsets[0], offsets[-1] = 0, length
        group[name] = offsets
    else:
        chunks = rng.choice([None, (3,)]) if length else None
        values = np.array([rng.randrange(100) for _ in range(length)], rng.choice(["i2", ">f8"]))
        group.create_dataset(name, data=values, chunks=chunks, maxshape=(None,) if chunks else None)


TARGETS["messages"] = TARGETS.pop("messages_")
