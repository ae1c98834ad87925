"""Event records in text: odd files are read right or refused with a reason."""

from __future__ import annotations

import gzip
import io
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evstream.adapters.formats import KnownFormats
from evstream.adapters.formats import text_stream as stream
from evstream.domain.errors import DataError, UnsupportedFormatError
from evstream.rootio import (
    BytesSource,
    CorruptFileError,
    SchemaMismatchError,
    UnknownBranchError,
    UnsupportedFeatureError,
)

FORMATS = KnownFormats()
HEADER = b"""<LesHouchesEvents version="3.0">
<!-- an example: <init> <event> </event> -->
<header><initrwgt><weight id='1001'>up</weight></initrwgt>
<![CDATA[ if a <event> b ]]>
</header>
<init>
 2212 2212 6.5E+03 6.5E+03 0 0 7 7 3 1
 1.0 0.1 1.0 1
</init>
"""
FOOTER = b"</LesHouchesEvents>\n#state 1 2 3\n"


def event(number: int) -> bytes:
    """Return an event of a length of its own."""
    lines = b"".join(b" 21 1 0 0 0 0 0. 0. 0. 0. 0. 0. 9.\n" for _ in range(number % 3))
    return b'<event npLO=" -1 ">\n 1 1 %d 1. 1. 1.\n' % number + lines + b"</event>\n"


def lhe(events: int) -> bytes:
    """Return a whole file."""
    return HEADER + b"".join(event(number) for number in range(events)) + FOOTER


def cut(content: bytes, start: int, stop: int) -> bytes:
    """Cut a file in memory."""
    source = BytesSource(content)
    file_format, index = FORMATS.inspect(source)
    planned = file_format.plan_cut(index, tree="events", entry_start=start, entry_stop=stop)
    planned.prepare(source)
    return planned.read(0, planned.size, source)


def test_header_weights_and_footer_come_along() -> None:
    assert cut(lhe(5), 1, 3) == HEADER + event(1) + event(2) + FOOTER
    assert cut(lhe(5), 2, 2) == HEADER + FOOTER
    assert cut(lhe(0), 0, 0) == lhe(0)


def test_comments_between_events_go_with_the_second_one() -> None:
    note = b"<!-- <event> that was thrown away </event> -->\n"
    content = HEADER + event(0) + note + event(1) + FOOTER
    assert cut(content, 0, 1) == HEADER + event(0) + FOOTER
    assert cut(content, 1, 2) == HEADER + note + event(1) + FOOTER


def test_tags_need_no_lines_of_their_own() -> None:
    content = (
        b"<LesHouchesEvents><init>1 2</init><event>a</event><event>b</event></LesHouchesEvents>"
    )
    found = cut(content, 1, 2)
    assert found == b"<LesHouchesEvents><init>1 2</init><event>b</event></LesHouchesEvents>"


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (HEADER + event(0), CorruptFileError, "ends before </LesHouchesEvents>"),
        (HEADER + event(0)[:-12], CorruptFileError, "ends in event 0"),
        (HEADER + b"<event>\n<event>\n" + FOOTER, CorruptFileError, "event 0 has no end"),
        (HEADER[:90], CorruptFileError, "no <init>"),
        # Behind it, the next event's "\n" or "-" would make a mark of it.
        (HEADER + b"<event<event>\n</event>" + lhe(1), CorruptFileError, "before event 0 has no"),
        (HEADER + b"<!- <event>\n</event>--" + lhe(1), CorruptFileError, "before event 0 has no"),
        (HEADER + b"<!-- " + event(0) + FOOTER, CorruptFileError, "in a comment"),
        (b"<LesHouchesEvents>\n" + event(0) + FOOTER, CorruptFileError, "no <init>"),
        (lhe(1) + lhe(1), UnsupportedFeatureError, "several LHE documents"),
        (
            HEADER + b"<eventgroup>\n" + event(0) + b"</eventgroup>\n" + FOOTER,
            UnsupportedFeatureError,
            "groups",
        ),
    ],
)
def test_what_cannot_be_cut_is_refused(content: bytes, error: type[DataError], words: str) -> None:
    with pytest.raises(error, match=words):
        FORMATS.inspect(BytesSource(content))


HEPMC = b"""HepMC::Version 3.02.05
HepMC::Asciiv3-START_EVENT_LISTING
W 2
N first\\|second
T tool\\|1\\|words
E 0 0 0
U GEV MM
W 1.0 2.0
E 1 0 0
U GEV MM
W 1.0 3.0
HepMC::Asciiv3-END_EVENT_LISTING

"""


def test_what_is_said_of_the_run_comes_along() -> None:
    found = cut(HEPMC, 1, 2).splitlines()
    assert found == [*HEPMC.splitlines()[:5], *HEPMC.splitlines()[8:]]


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (HEPMC.replace(b"HepMC::Asciiv3-END", b"X"), CorruptFileError, "END_EVENT_LISTING"),
        (HEPMC + HEPMC, UnsupportedFeatureError, "several listings"),
        (
            HEPMC.replace(b"-END_", b"-START_"),
            UnsupportedFeatureError,
            "several listings",
        ),
        (
            HEPMC.replace(b"E 1 0 0", b"T late\\|1\\|tool\nE 1 0 0"),
            UnsupportedFeatureError,
            "changes after event 0",
        ),
        (HEPMC.replace(b"Asciiv3", b"IO_Ascii"), UnsupportedFeatureError, "IO_Ascii"),
        (b"HepMC::Version 2.06.09\n", UnsupportedFeatureError, "missing"),
    ],
)
def test_odd_hepmc_is_refused(content: bytes, error: type[DataError], words: str) -> None:
    with pytest.raises(error, match=words):
        FORMATS.inspect(BytesSource(content))


@given(st.integers(1, 40), st.integers(0, 12), st.data())
def test_pieces_of_any_length_find_the_same_events(
    piece: int, events: int, data: st.DataObject
) -> None:
    content = lhe(events)
    grammar = FORMATS.named("lhe")._grammar  # type: ignore[attr-defined]
    chunks = [content[at : at + piece] for at in range(0, len(content), piece)]
    found = grammar.event_starts(stream.Search(iter(chunks)))
    whole = grammar.event_starts(stream.Search(iter([content])))
    assert found == whole
    assert len(found) == events + 1


def test_gzip_members_and_padding_are_read_as_one(rng: random.Random) -> None:
    content = lhe(50)
    at = rng.randrange(len(content))
    packed = gzip.compress(content[:at]) + gzip.compress(content[at:]) + bytes(512)
    assert gzip.decompress(cut(packed, 10, 20)) == cut(content, 10, 20)


def test_gzip_is_read_from_the_middle(monkeypatch: pytest.MonkeyPatch, rng: random.Random) -> None:
    monkeypatch.setattr(stream, "CHUNK_BYTES", 1000)
    monkeypatch.setattr(stream, "CHECKPOINT_BYTES", 1500)
    monkeypatch.setattr(stream, "CHECKPOINTS_MAX", 8)
    content = lhe(400)
    source = BytesSource(gzip.compress(content))
    file_format, index = FORMATS.inspect(source)
    chosen = np.sort(rng.sample(range(400), 60))
    planned = file_format.plan_select(index, tree="events", entries=chosen)
    planned.prepare(source)
    found = gzip.decompress(planned.read(0, planned.size, source))
    assert found == HEADER + b"".join(event(number) for number in chosen.tolist()) + FOOTER


def test_a_gzipped_product_bears_no_date_and_no_name() -> None:
    packed = cut(gzip.compress(lhe(3), mtime=12345), 0, 2)
    assert packed[:10] == b"\x1f\x8b\x08\0\0\0\0\0\0\x03"
    with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
        assert file.read() == HEADER + event(0) + event(1) + FOOTER


@pytest.mark.parametrize("keep", [0.3, 0.9, 0.999])
def test_gzip_cut_short_is_told(keep: float) -> None:
    packed = gzip.compress(lhe(2000))
    with pytest.raises(CorruptFileError):
        FORMATS.inspect(BytesSource(packed[: int(len(packed) * keep)]))


def test_a_bomb_is_refused() -> None:
    packed = gzip.compress(HEADER + b"<!-- " + bytes(200 << 20))
    with pytest.raises(CorruptFileError, match="200 times"):
        FORMATS.inspect(BytesSource(packed))


def test_damaged_gzip_is_told() -> None:
    packed = bytearray(gzip.compress(lhe(2000)))
    packed[len(packed) // 2] ^= 0xFF
    with pytest.raises(CorruptFileError):
        FORMATS.inspect(BytesSource(bytes(packed)))


def test_runs_with_other_cross_sections_are_not_joined(tmp_path: Path) -> None:
    one, other, same = (tmp_path / name for name in ("one.lhe", "other.lhe", "same.lhe"))
    one.write_bytes(lhe(2))
    same.write_bytes(lhe(3).replace(b" 1.0 0.1 1.0 1\n", b"1.0   0.1 1.0 1\n"))
    lhe_format = FORMATS.named("lhe")
    assert lhe_format.join([one, same], tmp_path / "joined.lhe").entries == {"events": 5}
    for old, new in [(b" 1.0 0.1 1.0 1\n", b" 2.0 0.1 1.0 1\n"), (b"1001", b"1002")]:
        other.write_bytes(lhe(2).replace(old, new))
        with pytest.raises(SchemaMismatchError, match="blocks differ"):
            lhe_format.join([one, other], tmp_path / "joined.lhe")
    other.write_bytes(HEPMC)
    with pytest.raises(SchemaMismatchError, match="no lhe file"):
        lhe_format.join([one, other], tmp_path / "joined.lhe")


@pytest.mark.parametrize("number", [b"", b"x", b"1" * 19, b"1.5"])
def test_an_event_line_without_a_number_is_told(tmp_path: Path, number: bytes) -> None:
    path = tmp_path / "odd.hepmc"
    path.write_bytes(HEPMC.replace(b"\nE ", b"\nE " + number + b" z", 1))
    with pytest.raises(CorruptFileError, match="without a number"):
        FORMATS.named("hepmc").read_numbers(path, "events", ["event_number"])


def test_hepmc_of_other_weights_is_not_joined(tmp_path: Path) -> None:
    one, other = tmp_path / "one.hepmc", tmp_path / "other.hepmc"
    one.write_bytes(HEPMC)
    hepmc = FORMATS.named("hepmc")
    other.write_bytes(HEPMC.replace(b"3.02.05", b"3.03.01"))
    assert hepmc.join([one, other], tmp_path / "joined.hepmc").entries == {"events": 4}
    other.write_bytes(HEPMC.replace(b"second", b"third"))
    with pytest.raises(SchemaMismatchError, match="weights"):
        hepmc.join([one, other], tmp_path / "joined.hepmc")


def test_plain_and_gzipped_are_joined_as_the_output_is_named(tmp_path: Path) -> None:
    plain, packed = tmp_path / "one.lhe", tmp_path / "two.lhe.gz"
    plain.write_bytes(lhe(2))
    packed.write_bytes(gzip.compress(lhe(3)))
    lhe_format = FORMATS.named("lhe")
    lhe_format.join([plain, packed], tmp_path / "joined.lhe")
    lhe_format.join([packed, plain], tmp_path / "joined.lhe.gz")
    joined = (tmp_path / "joined.lhe").read_bytes()
    assert joined == lhe(2)[: -len(FOOTER)] + lhe(3)[len(HEADER) :]
    assert len(gzip.decompress((tmp_path / "joined.lhe.gz").read_bytes())) == len(joined)


@pytest.mark.parametrize("packed_source", [False, True])
@pytest.mark.parametrize("name", ["cut.lhe", "cut.lhe.gz", "CUT.LHE.GZ"])
def test_plain_and_gzipped_are_cut_as_the_output_is_named(
    packed_source: bool, name: str, tmp_path: Path
) -> None:
    content = gzip.compress(lhe(5)) if packed_source else lhe(5)
    source = BytesSource(content)
    file_format, index = FORMATS.inspect(source)
    writer = file_format.for_output(name)
    chosen = writer.plan_select(index, tree="events", entries=[1, 3])
    found = []
    for planned in (
        writer.plan_cut(index, tree="events", entry_start=1, entry_stop=3),
        chosen,
    ):
        planned.prepare(source)
        found.append(planned.read(0, planned.size, source))
    packed = name.lower().endswith(".gz")
    assert writer.name == ("lhe.gz" if packed else "lhe")
    if packed:
        found = [gzip.decompress(one) for one in found]
    assert found == [HEADER + event(1) + event(last) + FOOTER for last in (2, 3)]
    (tmp_path / "one.lhe").write_bytes(lhe(5))
    file_format.join([tmp_path / "one.lhe"], tmp_path / name)
    joined = (tmp_path / name).read_bytes()
    assert (gzip.decompress(joined) if packed else joined) == lhe(5)


def test_text_has_no_branches() -> None:
    source = BytesSource(lhe(2))
    file_format, index = FORMATS.inspect(source)
    with pytest.raises(UnknownBranchError, match="no branches"):
        file_format.select(index, "events", ["*"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\0\0\0\x24\xab\xad\xca\xfe" + bytes(40), "LCIO"),
        (b"\x28\xb5\x2f\xfd" + bytes(40), "Zstandard"),
        (gzip.compress(b"run,event\n1,2\n"), "gzip file of something else"),
        (b"run,event\n1,2\n", "text file that begins with 'run,event'"),
        (b"", "empty"),
        (b"\x93NUMPY\x01\0", "NumPy"),
        (bytes(range(200, 250)), "unknown kind"),
    ],
    ids=["lcio", "zstd", "gzip", "csv", "empty", "numpy", "unknown"],
)
def test_others_are_refused_by_name(content: bytes, words: str) -> None:
    with pytest.raises(UnsupportedFormatError, match=words) as caught:
        FORMATS.inspect(BytesSource(content), "some.file")
    assert "some.file" in str(caught.value)
    assert "give ROOT, Parquet, HDF5, LHE or HepMC" in str(caught.value)
