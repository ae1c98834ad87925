"""What all suites share."""

from __future__ import annotations

import pytest


@pytest.mark.anyio
class Suite:
    """Base of the suites: its tests run on asyncio."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Name the event loop that anyio's plugin runs the tests on."""
        return "asyncio"
