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
                    await _send_file(cycle, message["fd"], message["offset"], message["count"])
                    message = {"type": "http.response.body"}
                await send(message)

            await app(scope, receive, send_or_file)

        super()._start_asgi_task(cycle, sending)


async def _send_file(cycle: RequestResponseCycle, fd: int, offset: int, count: int) -> None:
    """Send a part of a file as a response's body, which is complete then."""
    if cycle.disconnected or cycle.transport.is_closing():
        cycle.expected_content_length = 0
        return
    try:
        if isinstance(cycle.transport, TlsTransport):
            await cycle.transport.send_file(fd, offset, count)
        else:
            # The loop asks for a file object; the descriptor stays its owner's.
            with os.fdopen(os.dup(fd), "rb", buffering=0) as file:
                loop = asyncio.get_running_loop()
                sent = await loop.sendfile(cycle.transport, file, offset, count, fallback=False)
                if sent < count:
                    raise EOFError("a file ended before its size")
    except (OSError, EOFError, RuntimeError):
        # The client is gone, or the file is not what it was: the connection tells.
        cycle.transport.abort()
        cycle.disconnected = True
    cycle.expected_content_length -= count
