"""Parquet: products are written as their source was."""

from __future__ import annotations

import datetime as dt
import io
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evstream.adapters.formats import KnownFormats
from evstream.domain.errors import DataError
from evstream.rootio import (
    BytesSource,
    CorruptFileError,
    SchemaMismatchError,
    UnknownBranchError,
    UnsupportedFeatureError,
)

FORMATS = KnownFormats()
ROWS = 60


def table(rows: int = ROWS) -> pa.Table:
    """Return a table with a column of each kind that events come in."""
    numbers = np.arange(rows)
    jets = [[{"pt": float(i), "id": i} for i in range(n % 4)] for n in numbers]
    stamps = [dt.datetime(2020, 1, 1, tzinfo=dt.UTC) + dt.timedelta(n) for n in range(rows)]
    columns = {
        "run": pa.array(numbers, pa.uint32()),
        "pt": pa.array([[float(i)] * (i % 3) for i in range(rows)], pa.large_list(pa.float32())),
        "jet": pa.array(jets, pa.list_(pa.struct([("pt", pa.float64()), ("id", pa.int8())]))),
        "deep": pa.array([[[n], []] for n in range(rows)], pa.list_(pa.list_(pa.int16()))),
        "vector": pa.array([[n, n, n] for n in range(rows)], pa.list_(pa.int32(), 3)),
        "name": pa.array([None if n % 5 == 0 else f"e{n % 7}" for n in range(rows)]),
        "flag": pa.array((numbers % 2).astype(bool)),
        "when": pa.array(stamps, pa.timestamp("us", "UTC")),
        "sum": pa.array([Decimal(n) / 100 for n in range(rows)], pa.decimal128(9, 2)),
        "weights": pa.array([[("a", n), ("b", 2.0)] for n in range(rows)], pa.map_("string", "f8")),
        "kind": pa.array([f"k{n % 3}" for n in range(rows)]).dictionary_encode(),
        "half": pa.array(numbers.astype(np.float16)),
    }
    schema = pa.schema(
        [pa.field(n, c.type, metadata={"unit": "GeV"}) for n, c in columns.items()],
        metadata={"generator": "test", "pandas": "{}"},
    )
    return pa.table(list(columns.values()), schema=schema)


def stored(content: pa.Table, **settings: object) -> bytes:
    """Return a table as a file, 17 rows a row group."""
    out = io.BytesIO()
    pq.write_table(content, out, **{"row_group_size": 17, **settings})
    return out.getvalue()


def cut(content: bytes, start: int, stop: int, branches: list[str] | None = None) -> bytes:
    """Cut a file in memory."""
    source = BytesSource(content)
    file_format, index = FORMATS.inspect(source)
    names = None if branches is None else file_format.select(index, "events", branches)
    planned = file_format.plan_cut(
        index, tree="events", entry_start=start, entry_stop=stop, branches=names
    )
    planned.prepare(source)
    return planned.read(0, planned.size, source)


SOURCE = stored(table())


@given(st.data())
def test_any_range_is_the_same_slice(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, ROWS))
    stop = data.draw(st.integers(start, ROWS))
    found = pq.read_table(io.BytesIO(cut(SOURCE, start, stop)))
    expected = pq.read_table(io.BytesIO(SOURCE)).slice(start, stop - start)
    assert found.schema.equals(expected.schema, check_metadata=True)
    assert found.to_pylist() == expected.to_pylist()


@pytest.mark.parametrize("codec", ["none", "snappy", "gzip", "zstd", "lz4", "brotli"])
def test_row_groups_codecs_and_encodings_stay(codec: str) -> None:
    source = stored(
        table(), compression=codec, use_dictionary=["name", "kind"], write_statistics=["run"]
    )
    before = pq.ParquetFile(io.BytesIO(source)).metadata
    after = pq.ParquetFile(io.BytesIO(cut(source, 10, 40))).metadata
    assert [after.row_group(i).num_rows for i in range(after.num_row_groups)] == [7, 17, 6]
    assert after.metadata.keys() == before.metadata.keys()
    for i in range(before.num_columns):
        old, new = before.row_group(0).column(i), after.row_group(0).column(i)
        assert new.path_in_schema == old.path_in_schema
        assert new.compression == old.compression
        assert new.is_stats_set == old.is_stats_set
        assert new.has_dictionary_page == old.has_dictionary_page


@pytest.mark.parametrize(
    "settings",
    [
        {"use_deprecated_int96_timestamps": True},
        {"use_compliant_nested_type": False},
        {"version": "1.0"},
        {"store_schema": False},
        {"write_page_index": True},
        {"data_page_version": "2.0"},
        {"use_dictionary": False, "column_encoding": {"run": "DELTA_BINARY_PACKED"}},
    ],
)
def test_files_written_otherwise_stay_so(settings: dict[str, object]) -> None:
    content = table().drop_columns(["half"]) if settings.get("version") == "1.0" else table()
    source = stored(content, **settings)
    before = pq.ParquetFile(io.BytesIO(source))
    after = pq.ParquetFile(io.BytesIO(cut(source, 5, 50)))
    assert after.schema.equals(before.schema)
    assert after.schema_arrow.equals(before.schema_arrow, check_metadata=True)
    assert after.read().to_pylist() == before.read().slice(5, 45).to_pylist()


def test_columns_are_chosen_by_the_names_that_people_use() -> None:
    file_format, index = FORMATS.inspect(BytesSource(stored(table())))
    names = [branch.name for branch in index.trees["events"].branches]
    assert {"run", "pt", "jet.pt", "jet.id", "deep", "weights.key", "weights.value"} <= set(names)
    assert file_format.select(index, "events", ["jet"]) == ["jet.pt", "jet.id"]
    assert file_format.select(index, "events", ["*pt"]) == ["pt", "jet.pt"]
    with pytest.raises(UnknownBranchError, match="did you mean"):
        file_format.select(index, "events", ["jett"])
    found = pq.read_table(io.BytesIO(cut(stored(table()), 3, 9, ["jet.pt", "kind"])))
    assert found.schema.names == ["jet", "kind"]
    expected = table().slice(3, 6).to_pylist()
    assert found["kind"].to_pylist() == [row["kind"] for row in expected]
    assert found["jet"].to_pylist() == [[{"pt": j["pt"]} for j in row["jet"]] for row in expected]


def test_a_file_without_rows_is_one() -> None:
    empty = stored(table(0))
    assert pq.read_table(io.BytesIO(cut(empty, 0, 0))).num_rows == 0
    assert pq.read_table(io.BytesIO(cut(stored(table()), 9, 9))).num_rows == 0


_IN_A_PROCESS = """
import hashlib, sys
from evstream.adapters.formats import KnownFormats
from evstream.rootio import FileSource
if sys.argv[2] == "awkward":
    import awkward
    awkward.from_parquet(sys.argv[1], columns=["run"])
with FileSource(sys.argv[1]) as source:
    file_format, index = KnownFormats().inspect(source)
    names = file_format.select(index, "events", ["run", "Muon_*", "HLT_*"])
    cut = file_format.plan_cut(
        index, tree="events", entry_start=3, entry_stop=21, branches=names
    )
    cut.prepare(source)
    print(hashlib.sha256(cut.read(0, cut.size, source)).hexdigest())
"""


def test_the_bytes_do_not_depend_on_what_a_process_has_loaded(shared_data: Path) -> None:
    path = shared_data / "nano_dy.parquet"
    digests = {
        subprocess.run(
            [sys.executable, "-c", _IN_A_PROCESS, str(path), loaded],
            check=True,
            capture_output=True,
            text=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for loaded, seed in [("", "1"), ("", "2"), ("awkward", "3")]
    }
    assert len(digests) == 1


def test_other_columns_are_not_joined(tmp_path: Path) -> None:
    one, other = tmp_path / "one.parquet", tmp_path / "other.parquet"
    one.write_bytes(stored(table()))
    other.write_bytes(stored(table().drop_columns(["flag"])))
    with pytest.raises(SchemaMismatchError, match="differ in flag"):
        FORMATS.named("parquet").join([one, other], tmp_path / "joined.parquet")
    assert not (tmp_path / "joined.parquet").exists()


def test_damage_is_told() -> None:
    content = stored(table())
    for broken in (
        content[:-1],
        content[:-8] + b"\xff\xff\xff\x7fPAR1",
        content[:4] + bytes(len(content) - 12) + content[-8:],
    ):
        with pytest.raises(CorruptFileError):
            cut(broken, 0, 10)
    with pytest.raises(UnsupportedFeatureError, match="encrypted"):
        cut(content[:-4] + b"PARE", 0, 10)
    with pytest.raises(DataError):
        cut(content[:4] + b"\xff" * 2000 + content[2004:], 0, 10)


def test_columns_that_look_alike_have_names_of_their_own() -> None:
    inner = pa.struct([("b", pa.int32())])
    schema = pa.schema([("a", pa.list_(inner)), ("a.b", pa.int32())])
    content = pa.table({"a": [[{"b": 1}]], "a.b": [2]}, schema)
    _, index = FORMATS.inspect(BytesSource(stored(content)))
    names = [branch.name for branch in index.trees["events"].branches]
    assert names == ["a.list.element.b", "a.b"]
    found = pq.read_table(io.BytesIO(cut(stored(content), 0, 1, ["a.b"])))
    assert found.to_pylist() == [{"a.b": 2}]
    kinds = {"i4": 1, pa.struct([("c", "i4")]): {"c": 1}, pa.list_(pa.int32()): [1]}
    for kind, value in kinds.items():
        twins = pa.table(
            {"a": [{"b": value}], "a.b": [2]},
            pa.schema([("a", pa.struct([("b", kind)])), ("a.b", "i4")]),
        )
        with pytest.raises(UnsupportedFeatureError, match=r"two of its columns are called a\.b"):
            FORMATS.inspect(BytesSource(stored(twins)))
