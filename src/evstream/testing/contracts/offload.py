"""The contract of a place where blocking work runs."""

from __future__ import annotations

import asyncio

import pytest

from evstream.domain.errors import DataError
from evstream.ports.offload import Offload
from evstream.testing.contracts.suite import Suite


class OffloadContract(Suite):
    """Override `offload`."""

    @pytest.fixture
    def offload(self) -> Offload:
        """Return the place."""
        raise NotImplementedError("override offload")

    async def test_what_work_returns_comes_back(self, offload: Offload) -> None:
        assert await offload(lambda: 6 * 7) == 42

    async def test_what_work_raises_comes_back(self, offload: Offload) -> None:
        def work() -> None:
            raise DataError("bad bytes")

        with pytest.raises(DataError, match="bad bytes"):
            await offload(work)

    async def test_much_work_is_done(self, offload: Offload) -> None:
        def work(number: int) -> int:
            return number * number

        tasks = (offload(lambda number=number: work(number)) for number in range(200))  # type: ignore[misc]
        assert await asyncio.gather(*tasks) == [number * number for number in range(200)]
