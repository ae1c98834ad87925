"""A pilot's writer leaves when it is told, whatever holds its threads."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from evstream.adapters.offload import Threads
from evstream.adapters.source.origin_tokens import OriginTokens
from evstream.adapters.storage import direct
from evstream.adapters.storage.direct import DirectWriter
from evstream.domain.errors import TransientError


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


@pytest.mark.server
@pytest.mark.parametrize("scheme", ["http", "dav", "root"])
def test_a_store_that_says_nothing_is_given_up_when_time_is_over(
    tmp_path: Path, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if scheme == "root":
        pytest.importorskip("XRootD", reason="no wheel of xrootd for this Python")
    monkeypatch.setattr(direct, "CALL_S_MIN", 0.1)
    path = tmp_path / "output"
    path.write_bytes(b"x")

    async def main(port: int) -> None:
        threads = Threads(1)
        # By what is usual it would be waited for for an hour.
        writer = DirectWriter(OriginTokens.parse(""), threads, "", 3600.0)
        with pytest.raises(TransientError, match="does not answer"):
            await writer.write(f"{scheme}://127.0.0.1:{port}//output", path, 0.0)
        assert await writer.close()
        threads.close()

    with socket.create_server(("127.0.0.1", 0)) as silent:
        asyncio.run(main(silent.getsockname()[1]))
