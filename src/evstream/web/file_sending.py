"""uvicorn's HTTP, with files sent by the system: the ASGI extension ``evstream.sendfile``.

Its message says ``fd``, ``offset`` and ``count``; it is the whole body.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from evstream.web.patience import PatientProtocol
from evstream.web.representations import SENDFILE
from evstream.web.tls_transport import TlsTransport


class FileSendingProtocol(PatientProtocol):
    """HTTP/1.1 on a connection, plain or through a `TlsTransport`."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {SENDFILE: {}}

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        async def sending(scope: Any, receive: Any, send: Any) -> None:
            async def send_or_file(message: Any) -> None:
                if message["type"] == SENDFILE:
                    await self._send_file(cycle, message)
                    message = {"type": "http.response.body"}
                await send(message)

            await app(scope, receive, send_or_file)

        super()._start_asgi_task(cycle, sending)

    async def _send_file(self, cycle: RequestResponseCycle, message: Any) -> None:
        """Send a part of a file as a response's body, which is complete then."""
        count = message["count"]
        if cycle.disconnected or cycle.transport.is_closing():
            cycle.expected_content_length = 0
            return
        try:
            async with asyncio.timeout(None) as limit:
                # To break the connection alone would leave the loop waiting for it.
                self.watch_reader(lambda: limit.reschedule(self.loop.time()))
                await _send_file(cycle.transport, message["fd"], message["offset"], count)
        except (OSError, EOFError, RuntimeError):
            # The client is gone or too slow, or the file is not what it was: the connection tells.
            cycle.transport.abort()
            cycle.disconnected = True
        finally:
            self.unwatch_reader()
        cycle.expected_content_length -= count


async def _send_file(transport: asyncio.Transport, fd: int, offset: int, count: int) -> None:
    if isinstance(transport, TlsTransport):
        await transport.send_file(fd, offset, count)
        return
    # The loop asks for a file object; the descriptor stays its owner's.
    with os.fdopen(os.dup(fd), "rb", buffering=0) as file:
        loop = asyncio.get_running_loop()
        if await loop.sendfile(transport, file, offset, count, fallback=False) < count:
            raise EOFError("a file ended before its size")
