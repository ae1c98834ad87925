"""Cuts of small files, at random ranges and with random branches."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import uproot
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evstream import rootio

ENTRIES = 500
BRANCHES = ["x", "i", "fixed", "njet", "jet"]
# The fixtures are files that no example changes.
RELAXED = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def _product(source: rootio.ByteSource, index: rootio.SourceIndex, **request: object) -> bytes:
    cut = rootio.plan_cut(index, **request)  # type: ignore[arg-type]
    cut.prepare(source)
    data = cut.read(0, cut.size, source)
    assert len(data) == cut.size
    return data


@given(
    edges=st.tuples(st.integers(0, ENTRIES), st.integers(0, ENTRIES)).map(sorted),
    branches=st.none() | st.sets(st.sampled_from(BRANCHES), min_size=1).map(sorted),
    tree=st.sampled_from(["Events", "deep/er/other"]),
)
@RELAXED
def test_a_cut_holds_what_was_asked_for(
    small_file: Path,
    tmp_path: Path,
    edges: list[int],
    branches: list[str] | None,
    tree: str,
) -> None:
    start, stop = edges
    with rootio.FileSource(small_file) as source:
        data = _product(
            source, rootio.inspect(source),
            tree=tree, entry_start=start, entry_stop=stop, branches=branches,
        )  # fmt: skip
    path = tmp_path / "product.root"
    path.write_bytes(data)
    with uproot.open(small_file) as expected, uproot.open(path) as found:
        assert found[tree].num_entries == stop - start
        assert set(branches or BRANCHES) <= set(found[tree].keys())
        for name in found[tree].keys():  # noqa: SIM118 - branches are not keys
            mine = expected[tree][name].array(entry_start=start, entry_stop=stop)
            assert found[tree][name].array().tolist() == mine.tolist()


class _Indirect:
    """A source as storage adapters are: it answers ranges, and that is all."""

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self._data = data

    def read_ranges(self, ranges: Sequence[rootio.source.Range]) -> list[bytes]:
        return [self._data[offset : offset + size] for offset, size in ranges]


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=30))
@RELAXED
def test_bytes_are_the_same_in_whatever_steps_they_are_read(
    small_bytes: bytes, steps: list[int]
) -> None:
    source = rootio.BytesSource(small_bytes)
    cut = rootio.plan_cut(rootio.inspect(source), tree="Events", entry_start=3, entry_stop=490)
    cut.prepare(source)
    whole = cut.read(0, cut.size + 100, source)
    parts, filled, at = [], [], 0
    while at < cut.size:
        step = steps[len(parts) % len(steps)]
        parts.append(cut.read(at, step, source))
        filled.append(bytes(cut.read_into(at, memoryview(bytearray(step)), source)))
        at += step
    assert b"".join(parts) == b"".join(filled) == whole
    # A source that cannot read into a buffer gives the same.
    buffer = memoryview(bytearray(cut.size))
    assert cut.read_into(0, buffer, _Indirect(small_bytes)) == whole


def test_an_index_survives_its_bytes(small_bytes: bytes) -> None:
    source = rootio.BytesSource(small_bytes)
    index = rootio.inspect(source)
    again = rootio.SourceIndex.from_bytes(index.to_bytes())
    assert again.fingerprint == index.fingerprint
    assert again.trees["Events"].branches == index.trees["Events"].branches
    assert again.objects == index.objects
    request = {"tree": "deep/er/other", "entry_start": 7, "entry_stop": 333}
    assert _product(source, again, **request) == _product(source, index, **request)
    assert again.to_bytes() == index.to_bytes()


def test_indices_of_other_versions_are_refused(small_bytes: bytes) -> None:
    data = bytearray(rootio.inspect(rootio.BytesSource(small_bytes)).to_bytes())
    data[9] += 1
    with pytest.raises(rootio.CorruptFileError):
        rootio.SourceIndex.from_bytes(bytes(data))


_CHILD = """
import hashlib, sys
from evstream import rootio
with rootio.FileSource(sys.argv[1]) as source:
    cut = rootio.plan_cut(rootio.inspect(source), tree="Events", entry_start=5, entry_stop=444,
                          branches=["jet", "x"], identity=b"key")
    cut.prepare(source)
    print(hashlib.sha256(cut.read(0, cut.size, source)).hexdigest(), rootio.ENCODER_ID)
"""


def test_other_processes_make_the_same_bytes(small_file: Path) -> None:
    with rootio.FileSource(small_file) as source:
        data = _product(
            source, rootio.inspect(source),
            tree="Events", entry_start=5, entry_stop=444, branches=["x", "jet"], identity=b"key",
        )  # fmt: skip
    expected = f"{hashlib.sha256(data).hexdigest()} {rootio.ENCODER_ID}\n"
    for seed in ("0", "1", "4242"):
        environment = {
            **os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path),
        }  # fmt: skip
        run = subprocess.run(
            [sys.executable, "-c", _CHILD, str(small_file)],
            capture_output=True, text=True, check=True, env=environment, timeout=120,
        )  # fmt: skip
        assert run.stdout == expected


def test_the_identity_decides_the_uuid_and_nothing_else_does(small_bytes: bytes) -> None:
    source = rootio.BytesSource(small_bytes)
    index = rootio.inspect(source)
    request = {"tree": "Events", "entry_start": 0, "entry_stop": 10}
    one = _product(source, index, **request, identity=b"one")
    other = _product(source, index, **request, identity=b"other")
    assert len(one) == len(other)
    uuids = {rootio.inspect(rootio.BytesSource(d)).uuid for d in (one, other)}
    assert len(uuids) == 2
    assert one == _product(source, index, **request, identity=b"one")


def test_a_changed_source_is_noticed(small_bytes: bytes) -> None:
    index = rootio.inspect(rootio.BytesSource(small_bytes))
    shifted = rootio.BytesSource(small_bytes[:200] + b"\0" + small_bytes[200:-1])
    cut = rootio.plan_cut(index, tree="Events", entry_start=0, entry_stop=ENTRIES, leads=False)
    cut.prepare(shifted)
    with pytest.raises(rootio.CorruptFileError):
        cut.read(0, cut.size, shifted)
    # The histogram beside the tree is read before anything is promised.
    cut = rootio.plan_cut(index, tree="Events", entry_start=0, entry_stop=ENTRIES)
    with pytest.raises(rootio.CorruptFileError):
        cut.prepare(shifted)


def test_threads_may_share_an_index(small_bytes: bytes) -> None:
    source = rootio.BytesSource(small_bytes)
    index = rootio.inspect(source)

    def make(start: int) -> bytes:
        return _product(source, index, tree="Events", entry_start=start, entry_stop=start + 100)

    starts = list(range(0, 400, 25))
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(make, starts))
    assert together == [make(start) for start in starts]


def test_asking_too_early_is_the_callers_mistake(small_bytes: bytes) -> None:
    index = rootio.inspect(rootio.BytesSource(small_bytes))
    cut = rootio.plan_cut(index, tree="Events", entry_start=0, entry_stop=1)
    with pytest.raises(RuntimeError, match="prepare"):
        _ = cut.size


def test_the_file_appears_whole_or_not_at_all(small_file: Path, tmp_path: Path) -> None:
    with pytest.raises(rootio.EntryRangeError):
        rootio.cut(small_file, tmp_path / "no.root", tree="Events", entry_stop=10_000)
    assert list(tmp_path.iterdir()) == []
    assert rootio.cut(small_file, tmp_path / "yes.root", tree="Events", entry_start=490) == 10
    assert [p.name for p in tmp_path.iterdir()] == ["yes.root"]
