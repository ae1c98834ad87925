"""How long, and how much, a connection may take to say what it wants."""

from __future__ import annotations

import asyncio
import functools
import resource
import socket
import struct
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_S_MAX = 20.0
"""From a connection's first moment, or a request's first byte, to the end of its headers."""
HEAD_BYTES_MAX = 64 << 10
HEADERS_MAX = 100
READ_S_MAX = 120.0
READ_BYTES_PER_S_MIN = 1024
"""Who takes less of an answer in `READ_S_MAX` gets no more: what they read cannot be evicted."""
_BYTES_ACKED = struct.Struct("120xQ")
"""`tcpi_bytes_acked` in Linux's ``struct tcp_info``."""


@functools.cache
def connections_max() -> int:
    """Return how many connections are taken: files, sources and databases need descriptors, too."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] * 3 // 4


class PatientProtocol(HttpToolsProtocol):
    """HTTP/1.1 that gives up on who does not get to the point."""

    _timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_head = True
    _reading: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Wait for the first request."""
        super().connection_made(transport)
        if len(self.connections) > connections_max():
            transport.abort()
            return
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_timer()
        self.unwatch_reader()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; too many of them without an end of the headers are refused."""
        super().data_received(data)
        if self._in_head and not self.transport.is_closing():
            # Heads mostly come in one piece, and need no timer then.
            if self._timer is None:
                self._expect_head()
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self.send_400_response("The request's headers are too large.")

    def on_message_begin(self) -> None:
        """Begin to count a request's headers."""
        super().on_message_begin()
        self._head_bytes = 0
        self._in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        super().on_header(name, value)
        if len(self.headers) > HEADERS_MAX:
            raise ValueError("too many headers")

    def on_headers_complete(self) -> None:
        """Stop waiting: whoever reads the body waits for it."""
        self._in_head = False
        self._stop_timer()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Let what is left of a body that nobody wants come, for a while."""
        super().on_response_complete()
        answered = self.cycle.response_complete and self.cycle.more_body
        if answered and self._timer is None and not self.transport.is_closing():
            # Its bytes keep the connection from being idle; the next request's headers end this.
            self._expect_head()

    def pause_writing(self) -> None:
        """Look whether whoever should read does."""
        super().pause_writing()
        self.watch_reader(self.transport.abort)

    def resume_writing(self) -> None:
        """Look no more: they have read."""
        self.unwatch_reader()
        super().resume_writing()

    def watch_reader(self, give_up: Callable[[], None]) -> None:
        """Call `give_up` once whoever should read is too slow, until `unwatch_reader`."""
        self.unwatch_reader()
        sock = self.transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            self._look_later(sock, _bytes_read(sock), give_up)

    def unwatch_reader(self) -> None:
        """Let them be."""
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _look_later(self, sock: Any, before: int, give_up: Callable[[], None]) -> None:
        def look() -> None:
            now = _bytes_read(sock)
            if now - before < READ_S_MAX * READ_BYTES_PER_S_MIN:
                give_up()
            else:
                self._look_later(sock, now, give_up)

        self._reading = self.loop.call_later(READ_S_MAX, look)

    def _expect_head(self) -> None:
        self._timer = self.loop.call_later(HEAD_S_MAX, self._give_up)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.close()


def _bytes_read(sock: Any) -> int:
    """Return how many bytes the other side has taken so far."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED.size)
        return int(_BYTES_ACKED.unpack(info)[0])
    except (OSError, struct.error):
        # It is closed, which others see.
        return 0
