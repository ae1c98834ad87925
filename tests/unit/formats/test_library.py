"""Libraries in children: what goes wrong there is an error about the file."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pytest

from evstream.adapters.formats import hdf5
from evstream.adapters.formats.library import Library, LibraryFormat
from evstream.domain.errors import TransientError
from evstream.rootio import BytesSource, CorruptFileError
from tests.contract.test_formats import write_hdf5


class _Watched:
    """A source that does something when a child asks for bytes."""

    def __init__(self, content: bytes, act: Callable[[], None]) -> None:
        self._source = BytesSource(content)
        self._act = act
        self._asked = 0
        self.size = len(content)

    def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes | memoryview]:
        self._asked += 1
        # The first time it is for the fingerprint, which is ours to take.
        if self._asked > 1:
            self._act()
        return self._source.read_ranges(ranges)


def _children() -> list[psutil.Process]:
    words = "evstream.adapters.formats.library_child"
    return [child for child in psutil.Process().children() if words in child.cmdline()]


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    return write_hdf5(tmp_path / "in.h5", 20).read_bytes()


@pytest.mark.parametrize(
    ("number", "words"), [(signal.SIGSEGV, "signal 11"), (signal.SIGSTOP, "nothing came of it")]
)
def test_a_crash_and_a_hang_are_told(content: bytes, number: int, words: str) -> None:
    before = {child.pid for child in _children()}
    file_format = LibraryFormat(hdf5.BACKEND, Library("hdf5", silence_s_max=5.0))

    def act() -> None:
        (child,) = [c for c in _children() if c.pid not in before]
        os.kill(child.pid, number)

    with pytest.raises(CorruptFileError, match=words):
        file_format.inspect(_Watched(content, act))
    assert {child.pid for child in _children()} <= before
    # The next one gets a new child.
    assert file_format.inspect(BytesSource(content)).trees["events"].entries == 20


def test_what_the_source_says_comes_through(content: bytes) -> None:
    def act() -> None:
        raise TransientError("the store is away")

    with pytest.raises(TransientError, match="the store is away"):
        LibraryFormat(hdf5.BACKEND).inspect(_Watched(content, act))


def test_a_child_is_kept_for_the_next_call_and_ends_with_its_owner(content: bytes) -> None:
    before = {child.pid for child in _children()}
    file_format = LibraryFormat(hdf5.BACKEND)
    for _ in range(3):
        index = file_format.inspect(BytesSource(content))
        cut = file_format.plan_cut(index, tree="events", entry_start=1, entry_stop=2)
        cut.prepare(BytesSource(content))
    assert len({child.pid for child in _children()} - before) == 1
    del file_format, cut
    assert {child.pid for child in _children()} <= before
