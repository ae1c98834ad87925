"""uvicorn's HTTP, with files sent by the system, and with answers that need no task.

Files are the ASGI extension ``evstream.sendfile``: its message says ``fd``, ``offset`` and
``count``; it is the whole body. `WHOLE_BODY` and `ANSWER_WHOLE` spare small messages the steps
that large ones take.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from functools import partial
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from evstream.web.patience import PatientProtocol
from evstream.web.replies import ANSWER_WHOLE, WHOLE_BODY
from evstream.web.representations import SENDFILE
from evstream.web.short_way import lines_of
from evstream.web.tls_transport import TlsTransport

JOINED_DIGITS = 6
"""Bodies of 100 000 bytes and more are not copied behind their heads."""
AtOnce = Callable[[Any], tuple[int, bytes, bytes] | None]
"""From a request's scope, status, header lines and content; None: the application answers."""


class FileSendingProtocol(PatientProtocol):
    """HTTP/1.1 on a connection, plain or through a `TlsTransport`.

    Parameters
    ----------
    at_once : callable, optional
        Asked before the application is; it takes no time to speak of.
    """

    def __init__(self, *parts: Any, at_once: AtOnce | None = None, **named: Any) -> None:
        super().__init__(*parts, **named)
        self._at_once = at_once

    def on_message_begin(self) -> None:
        super().on_message_begin()
        extensions: Any = {SENDFILE: {}}
        self.scope["extensions"] = extensions

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if self.transport.is_closing():
            # What came behind the last request of a connection is not wanted.
            return
        # Who asks for more than it takes away waits in a task, as who has asked for more
        # already: answers that begin the next one would nest.
        free = not self.flow.write_paused and not self.pipeline
        if self._at_once and free and app is self.app:
            found = self._at_once(cycle.scope)
            if found is not None:
                self._answer(cycle, *found)
                return

        extensions: Any = cycle.scope["extensions"]
        extensions[WHOLE_BODY] = partial(_whole_body, cycle)
        extensions[ANSWER_WHOLE] = partial(self._answer_whole, cycle)

        async def sending(scope: Any, receive: Any, send: Any) -> None:
            started: Any = None

            async def send_or_file(message: Any) -> None:
                nonlocal started
                if started is not None:
                    before, started = started, None
                    if message["type"] == "http.response.body":
                        cycle.transport = _Joining(cycle.transport)  # type: ignore[assignment]
                    await send(before)
                elif _is_joined(scope, message):
                    # What is sent by itself costs another call of the system, and a packet.
                    started = message
                    return
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

    def _answer_whole(
        self,
        cycle: RequestResponseCycle,
        status: int,
        headers: list[tuple[bytes, bytes]],
        content: bytes,
    ) -> bool:
        """Send a response in one piece; not if its reader has to be waited for, or is gone."""
        waits = self.flow.write_paused or cycle.more_body or cycle.disconnected
        if waits or cycle.response_started or cycle.scope["method"] == "HEAD":
            return False
        self._answer(cycle, status, lines_of(headers), content)
        return True

    def _answer(
        self, cycle: RequestResponseCycle, status: int, lines: bytes, content: bytes
    ) -> None:
        """Send a response in one piece, and wait for the next request, if there shall be one."""
        cycle.response_started = cycle.response_complete = True
        # Who announces a body is answered by the application.
        cycle.more_body = False
        common = [b"%b: %b\r\n" % pair for pair in self.server_state.default_headers]
        if not cycle.keep_alive:
            common.append(b"connection: close\r\n")
        self.transport.write(b"".join([STATUS_LINE[status], *common, lines, b"\r\n", content]))
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()
        # As after a task: the request no longer holds on to the connection.
        cycle.on_response = _nothing


class _Joining:
    """A transport that sends the head of a response together with what comes first behind it."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._head: bytes | None = None
        self.write: Callable[[bytes], None] = self._keep

    def _keep(self, head: bytes) -> None:
        self._head = head
        self.write = self._join

    def _join(self, body: bytes) -> None:
        assert self._head is not None
        self.write = self._transport.write
        self.write(self._head + body)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def _is_joined(scope: Any, message: Any) -> bool:
    """Say whether a body follows at once: it is there already if its size is told."""
    if message["type"] != "http.response.start" or scope["method"] == "HEAD":
        return False
    return any(
        name == b"content-length" and value != b"0" and len(value) < JOINED_DIGITS
        for name, value in message.get("headers", ())
    )


async def _send_file(transport: asyncio.Transport, fd: int, offset: int, count: int) -> None:
    if isinstance(transport, TlsTransport):
        await transport.send_file(fd, offset, count)
        return
    # The loop asks for a file object; the descriptor stays its owner's.
    with os.fdopen(os.dup(fd), "rb", buffering=0) as file:
        loop = asyncio.get_running_loop()
        if await loop.sendfile(transport, file, offset, count, fallback=False) < count:
            raise EOFError("a file ended before its size")


def _whole_body(cycle: RequestResponseCycle) -> bytes | None:
    return None if cycle.more_body or cycle.disconnected else bytes(cycle.body)


def _nothing() -> None:
    """Do nothing."""
