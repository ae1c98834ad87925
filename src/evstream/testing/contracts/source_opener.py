"""The contract of a source opener."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from evstream.domain.errors import DataError, NotFoundError
from evstream.ports.source import SourceOpener
from evstream.testing.contracts.suite import Suite

CONTENT = bytes(range(256)) * 512
"""128 KiB in which every byte tells where it is, modulo 256."""


class SourceOpenerContract(Suite):
    """Override `opener` and `put`."""

    @pytest.fixture
    def opener(self) -> SourceOpener:
        """Return the opener."""
        raise NotImplementedError("override opener")

    @pytest.fixture
    def put(self) -> Callable[[bytes], str]:
        """Return what makes the one test file hold some content; it returns its PFN."""
        raise NotImplementedError("override put")

    def test_ranges_come_in_the_order_asked(
        self, opener: SourceOpener, put: Callable[[bytes], str]
    ) -> None:
        ranges = [(1000, 10), (0, 4), (len(CONTENT) - 3, 3), (1005, 100), (5, 0), (0, len(CONTENT))]
        with opener.open(put(CONTENT)) as source:
            assert source.size == len(CONTENT)
            found = source.read_ranges(ranges)
            assert source.read_ranges([]) == []
        assert [bytes(data) for data in found] == [
            CONTENT[offset : offset + size] for offset, size in ranges
        ]

    def test_an_empty_file_is_one(self, opener: SourceOpener, put: Callable[[bytes], str]) -> None:
        with opener.open(put(b"")) as source:
            assert source.size == 0
            assert [bytes(data) for data in source.read_ranges([(0, 0)])] == [b""]

    @pytest.mark.parametrize(
        "beyond", [(len(CONTENT), 1), (0, len(CONTENT) + 1), (-1, 1), (0, -1), (2**62, 10)]
    )
    def test_ranges_beyond_the_file_are_bad_data(
        self, opener: SourceOpener, put: Callable[[bytes], str], beyond: tuple[int, int]
    ) -> None:
        with opener.open(put(CONTENT)) as source, pytest.raises(DataError, match="truncated"):
            source.read_ranges([(0, 1), beyond])

    def test_threads_share_a_source(
        self, opener: SourceOpener, put: Callable[[bytes], str]
    ) -> None:
        ranges = [(offset, 97) for offset in range(0, len(CONTENT) - 97, 1013)]
        with opener.open(put(CONTENT)) as source, ThreadPoolExecutor(8) as threads:
            found = list(threads.map(lambda wanted: source.read_ranges([wanted])[0], ranges))
        assert [bytes(data) for data in found] == [
            CONTENT[offset : offset + size] for offset, size in ranges
        ]

    def test_a_missing_file_is_not_found(
        self, opener: SourceOpener, put: Callable[[bytes], str]
    ) -> None:
        missing = put(b"") + ".none"
        with pytest.raises(NotFoundError), opener.open(missing):
            pass
        with pytest.raises(NotFoundError):
            opener.signature(missing)

    def test_the_signature_changes_with_the_file(
        self, opener: SourceOpener, put: Callable[[bytes], str]
    ) -> None:
        pfn = put(CONTENT)
        first = opener.signature(pfn)
        assert opener.signature(pfn) == first
        assert opener.signature(put(CONTENT[:-1])) != first
