"""Codec work on several threads gives what one thread gives, in the same order."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from evstream import rootio
from evstream.rootio import threads
from evstream.rootio.compression import LZ4, LZMA, ZLIB, ZSTD, Setting, compress
from evstream.rootio.threads import WORTH_BYTES, WORTH_ITEM_BYTES, Crew, map_in_threads


def test_results_come_in_the_order_of_the_items() -> None:
    items = list(range(1000))
    assert map_in_threads(lambda n: n * n, items, WORTH_ITEM_BYTES * 1000, 4) == [
        n * n for n in items
    ]
    assert map_in_threads(lambda n: n * n, [], WORTH_BYTES, 4) == []


def test_little_work_stays_in_the_callers_thread() -> None:
    here = threading.get_ident()
    found = map_in_threads(lambda _: threading.get_ident(), [1, 2, 3], WORTH_BYTES - 1, 4)
    assert set(found) == {here}


def test_the_first_problem_is_told() -> None:
    def work(number: int) -> int:
        if number >= 50:
            raise ValueError(str(number))
        return number

    with pytest.raises(ValueError, match=r"^50$"):
        map_in_threads(work, list(range(100)), WORTH_BYTES, 2)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_crew_works_while_its_owner_goes_on(threads: int) -> None:
    with Crew(WORTH_BYTES, threads) as crew:
        waits = [crew.begin(lambda n: n * n, number) for number in range(100)]
        assert [wait() for wait in waits] == [number * number for number in range(100)]


def _products(path: Path) -> list[bytes]:
    source = rootio.FileSource(path)
    index = rootio.inspect(source)
    chosen = np.arange(0, 500, 3)
    cuts = [
        rootio.plan_cut(index, tree="Events", entry_start=17, entry_stop=490),
        rootio.plan_select(index, tree="Events", entries=chosen),
    ]
    for cut in cuts:
        cut.prepare(source)
    return [cut.read(0, cut.size, source) for cut in cuts]


def test_bytes_do_not_depend_on_the_number_of_threads(
    small_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "usable_cores", lambda: 1)
    alone = _products(small_file)
    monkeypatch.setattr(threads, "usable_cores", lambda: 4)
    monkeypatch.setattr(threads, "WORTH_BYTES", 0)
    assert _products(small_file) == alone


@pytest.mark.parametrize("algorithm", [ZLIB, LZMA, LZ4, ZSTD])
def test_what_was_compressed_before_leaves_no_trace(algorithm: int) -> None:
    rng = np.random.default_rng(5)
    words = [bytes(rng.integers(0, 20, size, np.uint8)) for size in (100, 9000, 300, 70_000, 2000)]
    setting = Setting(algorithm, 5)
    before = [bytes(compress(word, setting)) for word in words]
    fresh: list[bytes] = []
    for word in words:
        thread = threading.Thread(target=lambda w=word: fresh.append(bytes(compress(w, setting))))
        thread.start()
        thread.join()
    assert [bytes(compress(word, setting)) for word in reversed(words)] == before[::-1]
    assert fresh == before
