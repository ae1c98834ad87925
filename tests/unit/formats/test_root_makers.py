"""Makers in processes of their own: the same bytes, and nobody is hurt by what happens there."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
import uproot

from evstream.adapters.formats import KnownFormats, RootMakers, root_makers
from evstream.domain.errors import TransientError
from evstream.ports import ByteSource, Format
from evstream.rootio import BytesSource, CorruptFileError

ENTRIES = 4_000


class _Watched:
    """A source that does something before it gives bytes."""

    def __init__(self, content: bytes, act: Callable[[], None] = lambda: None) -> None:
        self._source = BytesSource(content)
        self.act = act
        self.size = len(content)

    def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes | memoryview]:
        self.act()
        return self._source.read_ranges(ranges)


def _working() -> list[psutil.Process]:
    words = "evstream.adapters.formats.root_maker"
    return [child for child in psutil.Process().children() if words in child.cmdline()]


@contextmanager
def makers_of(processes_max: int, silence_s_max: float = 60.0) -> Iterator[RootMakers]:
    before = {child.pid for child in _working()}
    makers = RootMakers(processes_max, silence_s_max)
    try:
        yield makers
    finally:
        makers.close()
    assert {child.pid for child in _working()} <= before


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    numbers = np.arange(ENTRIES)
    with uproot.recreate(tmp_path / "in.root") as file:
        tree = file.mktree("events", {"x": "int64", "y": "float32"})
        for part in np.split(numbers, 4):
            tree.extend({"x": part, "y": part * 0.5})
    return (tmp_path / "in.root").read_bytes()


def made(
    file_format: Format, content: bytes, source: ByteSource | None = None, start: int = 5
) -> bytes:
    """Return a cut that ends within baskets."""
    source = source or BytesSource(content)
    index = file_format.inspect(BytesSource(content))
    cut = file_format.plan_cut(
        index, tree="events", entry_start=start, entry_stop=start + 2_500, identity=b"k" * 32
    )
    cut.prepare(source)
    cut.prepare(source)
    return cut.read(0, cut.size, source)


def selected(file_format: Format, content: bytes) -> bytes:
    """Return every seventh entry."""
    source = BytesSource(content)
    cut = file_format.plan_select(
        file_format.inspect(source),
        tree="events",
        entries=np.arange(0, ENTRIES, 7),
        identity=b"k" * 32,
    )
    cut.prepare(source)
    return cut.read(0, cut.size, source)


HERE = KnownFormats().named("root")


def by(makers: RootMakers) -> Format:
    return KnownFormats(makers).named("root")


def test_makers_make_what_is_made_in_place(content: bytes) -> None:
    with makers_of(1) as makers:
        makers.start(1)
        assert made(by(makers), content) == made(HERE, content)
        assert selected(by(makers), content) == selected(HERE, content)
        assert len(_working()) == 1


def test_who_takes_no_basket_apart_needs_no_maker(content: bytes) -> None:
    source = BytesSource(content)

    def whole_baskets(file_format: Format) -> bytes:
        index = file_format.inspect(source)
        cut = file_format.plan_cut(index, tree="events", entry_start=1_000, entry_stop=3_000)
        cut.prepare(source)
        return cut.read(0, cut.size, source)

    with makers_of(1) as makers:
        assert whole_baskets(by(makers)) == whole_baskets(HERE)
        assert not _working()
        made(by(makers), content)
        assert _working(), "one that ends within baskets is made elsewhere"


def test_no_more_are_started_for_who_can_soon_have_one(
    content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(root_makers, "STARTED_AFTER_S", 60.0)
    with makers_of(4) as makers:
        makers.start(1)
        # The first is there by then: what follows are short cuts.
        made(by(makers), content)
        cuts = [threading.Thread(target=made, args=(by(makers), content)) for _ in range(4)]
        for cut in cuts:
            cut.start()
        for cut in cuts:
            cut.join()
        assert len(_working()) == 1


def test_another_is_started_where_one_waits_for_its_source(
    content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(root_makers, "STARTED_AFTER_S", 0.01)
    held, goes_on = threading.Event(), threading.Event()

    def wait() -> None:
        held.set()
        goes_on.wait()

    with makers_of(2) as makers:
        makers.start(1)
        slow = threading.Thread(target=made, args=(by(makers), content, _Watched(content, wait)))
        slow.start()
        held.wait()
        assert made(by(makers), content) == made(HERE, content)
        assert len(_working()) == 2
        goes_on.set()
        slow.join()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_maker_that_dies_is_replaced(content: bytes, number: int) -> None:
    killed: list[int] = []

    def kill_once() -> None:
        if not killed:
            (child,) = _working()
            killed.append(child.pid)
            os.kill(child.pid, number)

    with makers_of(1) as makers:
        assert made(by(makers), content, _Watched(content, kill_once)) == made(HERE, content)
        (other,) = _working()
        assert other.pid not in killed


def test_one_that_died_while_it_was_idle_is_not_used(content: bytes) -> None:
    with makers_of(1) as makers:
        makers.start(1)
        (child,) = _working()
        os.kill(child.pid, signal.SIGKILL)
        psutil.wait_procs([child])
        assert made(by(makers), content) == made(HERE, content)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "words"), [(signal.SIGKILL, "signal 9"), (signal.SIGSTOP, "makers ended")]
)
def test_what_ends_every_maker_is_given_up(content: bytes, number: int, words: str) -> None:
    stopped: list[int] = []

    def act() -> None:
        (child,) = _working()
        stopped.append(child.pid)
        os.kill(child.pid, number)

    with (
        makers_of(1, silence_s_max=5.0) as makers,
        pytest.raises(CorruptFileError, match=words),
    ):
        made(by(makers), content, _Watched(content, act))
    assert len(set(stopped)) == 2


def test_a_source_that_fails_costs_no_maker(content: bytes) -> None:
    def fail() -> None:
        raise TransientError("the origin does not answer")

    with makers_of(1) as makers:
        source = _Watched(content)
        assert made(by(makers), content, source) == made(HERE, content)
        (child,) = _working()
        source.act = fail
        with pytest.raises(TransientError, match="the origin"):
            made(by(makers), content, source, start=9)
        source.act = lambda: None
        assert made(by(makers), content, source, start=9) == made(HERE, content, start=9)
        assert _working() == [child]


def test_damage_is_told_as_it_is_in_place(content: bytes) -> None:
    class Short(_Watched):
        def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
            return [bytes(data)[:-1] for data in super().read_ranges(ranges)]

    class Zeros(_Watched):
        def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
            return [bytes(size) for _, size in ranges]

    with makers_of(1) as makers:
        for kind in (Short, Zeros):
            told = []
            for file_format in (HERE, by(makers)):
                with pytest.raises(CorruptFileError) as caught:
                    made(file_format, content, kind(content))
                told.append((caught.value.code, caught.value.message.split(",")[0]))
            assert told[0][0] == told[1][0]
        assert made(by(makers), content) == made(HERE, content)
        assert len(_working()) == 1


def test_no_more_of_them_than_are_allowed(content: bytes) -> None:
    expected = {start: made(HERE, content, start=start) for start in range(8)}
    found: dict[int, bytes] = {}
    most: list[int] = []
    with makers_of(2) as makers:
        file_format = by(makers)

        def one(start: int) -> None:
            source = _Watched(content, lambda: most.append(len(_working())))
            found[start] = made(file_format, content, source, start=start)

        threads = [threading.Thread(target=one, args=(start,)) for start in expected]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == expected
    assert max(most) <= 2


def test_what_is_large_crosses_in_pieces(
    content: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Entries that do not compress, so that the baskets that are made anew are large.
    numbers = np.random.default_rng(3).random(1_200_000)
    with uproot.recreate(tmp_path / "large.root", compression=None) as file:
        tree = file.mktree("events", {"x": "float64"})
        for part in np.split(numbers, 8):
            tree.extend({"x": part})
    large = (tmp_path / "large.root").read_bytes()
    chosen = np.flatnonzero(numbers < 0.8)
    products = []
    with makers_of(1) as makers:
        for file_format in (HERE, by(makers)):
            source = BytesSource(large)
            cut = file_format.plan_select(
                file_format.inspect(source), tree="events", entries=chosen, identity=b"k" * 32
            )
            cut.prepare(source)
            assert cut.size > 6 << 20
            products.append(cut.read(0, cut.size, source))
    assert products[0] == products[1]


def test_files_take_turns_in_a_makers_memory(tmp_path: Path) -> None:
    with makers_of(1) as makers:
        for _ in range(2):
            for number in range(10):
                path = tmp_path / f"{number}.root"
                if not path.exists():
                    with uproot.recreate(path) as file:
                        file["events"] = {"x": np.arange(ENTRIES) + number}
                content = path.read_bytes()
                assert made(by(makers), content) == made(HERE, content)
