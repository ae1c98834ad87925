"""Joined RNTuples hold their sources' entries one after the other, to ROOT and to uproot."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from evstream import rootio
from tests.conformance.rootio.conftest import Compare, NTuplePair
from tests.conformance.rootio.uproot_ntuples import equal_by_uproot
from tests.conformance.rootio.zoo import HERE, TIMEOUT_S, Zoo, run_root

CUT = "test_multiple_cluster_groups_rntuple_v1-0-0-0.root"
PODIO = "edm4hep_example_rntuple.root"


def joined(files: Sequence[Path], out: Path, ntuples: Sequence[str]) -> list[NTuplePair]:
    """Join files; return what of the product must equal which of them."""
    result = rootio.join(files, out)
    pairs = []
    for path in ntuples:
        first = 0
        for file in files:
            with rootio.FileSource(file) as source:
                entries = rootio.inspect(source).trees[path].entries
            pairs.append(NTuplePair(file, path, 0, out, entries, product_first=first))
            first += entries
        assert result.entries[path] == first
    return pairs


@pytest.mark.slow
@pytest.mark.parametrize(
    "names",
    [
        ("zlib", "zlib_b"),
        # All codecs, and fields that are stored in other ways without compression.
        ("zlib", "plain", "zstd", "lz4", "lzma"),
        ("turns", "turns"),
        ("late", "late_plain"),
        ("split", "zlib"),
    ],
)
def test_joins_of_the_zoo(
    names: tuple[str, ...], ntuple_zoo: Zoo, equal_ntuples_by_root: Compare, tmp_path: Path
) -> None:
    files = [ntuple_zoo.files[name] for name in names]
    pairs = joined(files, tmp_path / "joined.root", ("zoo", "deep/er/small"))
    equal_ntuples_by_root(pairs, ntuple_zoo.library)


@pytest.mark.slow
def test_class_descriptions_of_streamed_fields_are_united(
    ntuple_zoo: Zoo, equal_ntuples_by_root: Compare, tmp_path: Path
) -> None:
    second, first = ntuple_zoo.files["second"], ntuple_zoo.files["zlib"]
    with rootio.FileSource(second) as source:
        ntuple = rootio.inspect(source).ntuples["zoo"]
    names = [b.name for b in ntuple.branches if b.is_top_level and b.name != "other_streamed"]
    parts = [tmp_path / "second.root", tmp_path / "first.root"]
    rootio.cut(second, parts[0], tree="zoo", branches=names)
    rootio.cut(first, parts[1], tree="zoo")
    pairs = joined(parts, tmp_path / "joined.root", ["zoo"])
    equal_ntuples_by_root(pairs, ntuple_zoo.library)


@pytest.mark.slow
def test_other_fields_are_refused_by_name(ntuple_zoo: Zoo, tmp_path: Path) -> None:
    files = [ntuple_zoo.files["zlib"], ntuple_zoo.files["second"]]
    with pytest.raises(rootio.SchemaMismatchError) as caught:
        rootio.join(files, tmp_path / "joined.root")
    assert caught.value.fields["names"] == ["other_streamed"]


@pytest.mark.slow
def test_slices_join_to_their_source(
    shared_data: Path, equal_ntuples_by_root: Compare, tmp_path: Path
) -> None:
    source = shared_data / CUT
    parts = []
    for start, stop in ((0, 130), (130, 131), (131, 450), (450, 1000)):
        parts.append(tmp_path / f"{start}.root")
        rootio.cut(source, parts[-1], tree="ntuple", entry_start=start, entry_stop=stop)
    out = tmp_path / "joined.root"
    assert rootio.join(parts, out).entries == {"ntuple": 1000}
    equal_ntuples_by_root([NTuplePair(source, "ntuple", 0, out, 1000)])
    assert equal_by_uproot(source, "ntuple", slice(0, 1000), out)[1] == []


@pytest.mark.slow
def test_metadata_comes_along_and_is_kept_once(
    shared_data: Path, equal_ntuples_by_root: Compare, tmp_path: Path
) -> None:
    source = shared_data / PODIO
    parts = []
    for entry in range(3):
        parts.append(tmp_path / f"{entry}.root")
        rootio.cut(source, parts[-1], tree="events", entry_start=entry, entry_stop=entry + 1)
    out = tmp_path / "joined.root"
    result = rootio.join(parts, out)
    assert result.entries == {"events": 3, "podio_metadata": 1}
    assert result.objects["once"] == ("podio_metadata",)
    pairs = [NTuplePair(source, "events", 0, out, 3)]
    pairs.append(NTuplePair(source, "podio_metadata", 0, out, 1))
    equal_ntuples_by_root(pairs)


@pytest.mark.slow
def test_hadd_takes_products(
    shared_data: Path, root_bin: Path, equal_ntuples_by_root: Compare, tmp_path: Path
) -> None:
    source = shared_data / CUT
    parts = []
    for start, stop in ((10, 200), (200, 431)):
        parts.append(tmp_path / f"{start}.root")
        rootio.cut(source, parts[-1], tree="ntuple", entry_start=start, entry_stop=stop)
    out = tmp_path / "hadded.root"
    run = subprocess.run(
        [root_bin / "hadd", out, *parts],
        capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    again = tmp_path / "again.root"
    assert rootio.cut(out, again, tree="ntuple", entry_start=5, entry_stop=415) == 410
    equal_ntuples_by_root(
        [NTuplePair(source, "ntuple", 10, out, 421), NTuplePair(source, "ntuple", 15, again, 410)]
    )


@pytest.mark.slow
def test_attribute_sets_are_left_behind_and_told(
    root_bin: Path, equal_ntuples_by_root: Compare, tmp_path: Path
) -> None:
    files = [tmp_path / "one.root", tmp_path / "two.root"]
    for path in files:
        run_root(root_bin, tmp_path, f'{HERE / "make_attributes.C"}("{path}", 100)')
    with rootio.FileSource(files[0]) as source:
        planned = rootio.plan_cut(
            rootio.inspect(source), tree="Events", entry_start=30, entry_stop=90
        )
    assert "linked attribute sets (1)" in planned.left_behind
    part, out = tmp_path / "part.root", tmp_path / "joined.root"
    rootio.cut(files[0], part, tree="Events", entry_start=30, entry_stop=90)
    result = rootio.join([*files, part], out)
    names = ", ".join(str(path) for path in files)
    assert result.notes == (f"left behind of Events in {names}: linked attribute sets (1)",)
    pairs = [NTuplePair(files[0], "Events", 30, part, 60)]
    for number, path in enumerate(files):
        pairs.append(NTuplePair(path, "Events", 0, out, 100, product_first=100 * number))
    equal_ntuples_by_root(pairs)
