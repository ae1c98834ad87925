"""A pilot's writer leaves when it is told, whatever holds its threads."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from evstream.adapters.offload import Threads
from evstream.adapters.source.origin_tokens import OriginTokens
from evstream.adapters.storage.direct import DirectWriter


async def opened(fifo: Path) -> int:
    """Open a pipe's other end, once somebody waits at this one."""
    while True:
        try:
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            await asyncio.sleep(0)


def test_who_is_cancelled_does_not_wait_for_the_thread(tmp_path: Path) -> None:
    fifo = tmp_path / "output"
    os.mkfifo(fifo)

    async def main() -> None:
        threads = Threads(1)
        writer = DirectWriter(OriginTokens.parse(""), threads, "", 1.0)
        writing = asyncio.ensure_future(writer.write("root://127.0.0.1//output", fifo))
        end = await opened(fifo)
        # Its thread is in a read that brings nothing.
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert not await writer.close()
        os.close(end)
        threads.close()
        assert await writer.close()

    asyncio.run(main())
