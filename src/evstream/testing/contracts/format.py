"""The contract of a file format."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from evstream.domain.errors import DataError, EvstreamError, RequestError
from evstream.ports.format import HEAD_BYTES, Cut, FileIndex, Format
from evstream.ports.source import ByteSource
from evstream.rootio import FileSource
from evstream.testing.contracts.suite import Suite


class FormatContract(Suite):
    """Override `file_format`, `path`, `tree` and `events`; `numbers` where there are any.

    Attributes
    ----------
    whole_join : bool
        Whether slices that cover a file, joined, are the file again byte for byte.
    no_numbers : tuple of str
        Branches that hold something else than one whole number for each entry.
    """

    whole_join = False
    no_numbers: tuple[str, ...] = ()

    @pytest.fixture
    def file_format(self) -> Format:
        """Return the format."""
        raise NotImplementedError("override file_format")

    @pytest.fixture
    def path(self) -> Path:
        """Return a file of the format with more than 10 entries."""
        raise NotImplementedError("override path")

    @pytest.fixture
    def tree(self) -> str:
        """Return the tree that is cut."""
        raise NotImplementedError("override tree")

    def events(self, path: Path) -> list[object]:
        """Return what an independent reader finds in a file, an item an entry."""
        raise NotImplementedError("override events")

    def numbers(self, path: Path) -> dict[str, list[int]]:
        """Return what an independent reader finds in branches of one whole number an entry."""
        return {}

    def test_its_files_are_recognised(self, file_format: Format, path: Path) -> None:
        assert file_format.recognises(path.read_bytes()[:HEAD_BYTES])
        assert not file_format.recognises(b"")
        assert not file_format.recognises(b"something else, and not short either" * 100)
        assert path.name.endswith(file_format.suffixes)

    def test_cuts_hold_the_entries_asked_for(
        self, file_format: Format, path: Path, tree: str, tmp_path: Path, rng: random.Random
    ) -> None:
        expected = self.events(path)
        with FileSource(path) as source:
            index = file_format.inspect(source)
            assert index.trees[tree].entries == len(expected)
            for number in range(6):
                start, stop = sorted(rng.sample(range(len(expected) + 1), 2))
                if number == 0:
                    start, stop = 0, len(expected)
                elif number == 1:
                    stop = start
                out = tmp_path / f"cut{number}{file_format.suffixes[0]}"
                out.write_bytes(product(file_format, index, tree, (start, stop), source, rng))
                assert self.events(out) == expected[start:stop], (start, stop)

    def test_selections_hold_the_entries_asked_for(
        self, file_format: Format, path: Path, tree: str, tmp_path: Path, rng: random.Random
    ) -> None:
        expected = self.events(path)
        chosen = sorted(rng.sample(range(len(expected)), len(expected) // 3))
        with FileSource(path) as source:
            index = file_format.inspect(source)
            cut = file_format.plan_select(index, tree=tree, entries=chosen)
            cut.prepare(source)
            out = tmp_path / f"selected{file_format.suffixes[0]}"
            out.write_bytes(cut.read(0, cut.size, source))
        assert cut.entries == len(chosen)
        assert self.events(out) == [expected[entry] for entry in chosen]

    def test_numbers_of_entries_are_read(self, file_format: Format, path: Path, tree: str) -> None:
        expected = self.numbers(path)
        if expected:
            found = file_format.read_numbers(path, tree, list(expected))
            assert found is not None
            columns = dict(zip(expected, found.T.tolist(), strict=True))
            assert columns == expected
        for name in ("no-such-branch", *self.no_numbers):
            assert file_format.read_numbers(path, tree, [*expected, name]) is None, name
        assert file_format.read_numbers(path, "no-such-tree", list(expected)) is None

    def test_the_same_cut_is_the_same_bytes(
        self, file_format: Format, path: Path, tree: str
    ) -> None:
        found = set()
        for _ in range(2):
            with FileSource(path) as source:
                index = file_format.inspect(source)
                cut = file_format.plan_cut(
                    index, tree=tree, entry_start=2, entry_stop=9, identity=b"key"
                )
                cut.prepare(source)
                found.add(cut.read(0, cut.size, source))
        assert len(found) == 1
        assert file_format.encoder_id

    def test_slices_joined_are_the_source(
        self, file_format: Format, path: Path, tree: str, tmp_path: Path, rng: random.Random
    ) -> None:
        expected = self.events(path)
        bounds = [0, *sorted(rng.sample(range(1, len(expected)), 3)), len(expected)]
        parts = []
        with FileSource(path) as source:
            index = file_format.inspect(source)
            for start, stop in itertools.pairwise(bounds):
                part = tmp_path / f"part{start}{file_format.suffixes[0]}"
                part.write_bytes(product(file_format, index, tree, (start, stop), source, rng))
                parts.append(part)
        joined = tmp_path / f"joined{file_format.suffixes[0]}"
        result = file_format.join(parts, joined, identity=b"key")
        assert result.entries[tree] == len(expected)
        assert sum(summed(file_format, part)[tree] for part in parts) == len(expected)
        assert summed(file_format, joined)[tree] == len(expected)
        assert result.size == joined.stat().st_size
        assert self.events(joined) == expected
        if self.whole_join:
            assert joined.read_bytes() == path.read_bytes()

    @pytest.mark.parametrize("place", [0, 1])
    def test_an_input_that_cannot_be_joined_is_named(
        self, file_format: Format, path: Path, tmp_path: Path, place: int
    ) -> None:
        bad = tmp_path / f"bad{file_format.suffixes[0]}"
        bad.write_bytes(b"nothing of the kind " * 100)
        joined = tmp_path / f"joined{file_format.suffixes[0]}"
        with pytest.raises(DataError) as caught:
            file_format.join([bad, path] if place == 0 else [path, bad], joined)
        assert str(bad) in caught.value.message
        with pytest.raises(DataError) as caught:
            file_format.join([path, bad], joined, names=["the first", "another"])
        assert "another" in caught.value.message
        assert not joined.exists()

    def test_an_index_that_was_kept_still_selects(
        self, file_format: Format, path: Path, tree: str
    ) -> None:
        with FileSource(path) as source:
            index = file_format.inspect(source)
        loaded = file_format.load(index.to_bytes())
        assert loaded.fingerprint == index.fingerprint
        assert loaded.trees[tree].entries == index.trees[tree].entries
        if index.trees[tree].branches:
            assert file_format.select(loaded, tree, ["*"]) == file_format.select(index, tree, ["*"])
        with pytest.raises(DataError):
            file_format.load(index.to_bytes()[:-3])

    def test_what_is_not_there_is_refused(self, file_format: Format, path: Path, tree: str) -> None:
        with FileSource(path) as source:
            index = file_format.inspect(source)
        beyond = index.trees[tree].entries + 1
        for start, stop in [(0, beyond), (-1, 2), (5, 4)]:
            with pytest.raises(RequestError, match="do not lie within"):
                file_format.plan_cut(index, tree=tree, entry_start=start, entry_stop=stop)
        with pytest.raises(RequestError):
            file_format.plan_cut(index, tree="no-such", entry_start=0, entry_stop=1)
        with pytest.raises(RequestError):
            file_format.select(index, tree, ["no-such-branch"])
        with pytest.raises(RequestError):
            file_format.plan_cut(
                index, tree=tree, entry_start=0, entry_stop=1, branches=["no-such-branch"]
            )

    def test_another_file_has_another_fingerprint(
        self, file_format: Format, path: Path, tree: str, tmp_path: Path, rng: random.Random
    ) -> None:
        with FileSource(path) as source:
            index = file_format.inspect(source)
            part = tmp_path / f"part{file_format.suffixes[0]}"
            part.write_bytes(product(file_format, index, tree, (0, 5), source, rng))
        with FileSource(part) as source:
            assert file_format.inspect(source).fingerprint != index.fingerprint

    def test_a_file_cut_short_is_told(
        self, file_format: Format, path: Path, tree: str, rng: random.Random
    ) -> None:
        content = path.read_bytes()
        for length in [0, 1, len(content) - 1 - len(content) // 50, rng.randrange(len(content))]:
            source = _Short(content[:length])
            with pytest.raises(EvstreamError):
                product(
                    file_format,
                    file_format.inspect(source),
                    tree,
                    (0, len(self.events(path))),
                    source,
                    rng,
                )


def product(
    file_format: Format,
    index: FileIndex,
    tree: str,
    interval: tuple[int, int],
    source: ByteSource,
    rng: random.Random,
) -> bytes:
    """Return a cut's bytes, read in two pieces and compared with one."""
    start, stop = interval
    cut: Cut = file_format.plan_cut(index, tree=tree, entry_start=start, entry_stop=stop)
    cut.prepare(source)
    assert cut.entries == stop - start
    at = rng.randrange(cut.size + 1)
    data = cut.read(0, at, source) + cut.read(at, cut.size, source)
    assert data == cut.read(0, cut.size + 100, source)
    assert len(data) == cut.size
    return data


class _Short:
    """What came of a file whose transfer broke."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.size = len(content)

    def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        return [self._content[offset : offset + size] for offset, size in ranges]


def summed(file_format: Format, path: Path) -> dict[str, int]:
    """Return what a file adds to a join's entries."""
    with FileSource(path) as source:
        return file_format.summed(file_format.inspect(source))
