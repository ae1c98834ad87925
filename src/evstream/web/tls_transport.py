"""TLS on a connection with few copies: OpenSSL writes to the socket itself.

asyncio's own TLS encrypts into memory, takes it from there and gives it to the socket:
two copies and their allocation more for each byte.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import ssl
from collections.abc import Callable
from typing import Any

READ_BYTES = 64 << 10
RECORD_BYTES = 16 << 10
"""Of TLS, at most."""
CHUNK_BYTES = 256 << 10
HIGH_BYTES, LOW_BYTES = 256 << 10, 64 << 10
HANDSHAKE_S_MAX = 20.0


class TlsAcceptor(asyncio.Protocol):
    """Takes a new plain connection, and puts TLS and a protocol on it."""

    def __init__(self, context: ssl.SSLContext, inner: asyncio.Protocol) -> None:
        self._context = context
        self._inner = inner

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket over from the transport."""
        assert isinstance(transport, asyncio.Transport)
        plain = transport.get_extra_info("socket").dup()
        # It has not begun to read, and closes its own descriptor alone.
        transport.abort()
        plain.setblocking(False)
        try:
            wrapped = self._context.wrap_socket(
                plain, server_side=True, do_handshake_on_connect=False
            )
        except (OSError, ValueError):
            plain.close()
            return
        TlsTransport(asyncio.get_running_loop(), wrapped, self._inner)


class TlsTransport(asyncio.Transport):
    """A connection that has TLS, as a transport of asyncio.

    The protocol is told of the connection once the handshake is done; one that takes
    longer than `HANDSHAKE_S_MAX` is closed.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: ssl.SSLSocket, protocol: asyncio.Protocol
    ) -> None:
        super().__init__(
            {
                "socket": sock,
                "sslcontext": sock.context,
                "ssl_object": sock,
                "sockname": sock.getsockname(),
                "peername": _peer_of(sock),
            }
        )
        self._loop = loop
        self._sock = sock
        self._fd = sock.fileno()
        self._protocol: asyncio.BaseProtocol = protocol
        self._buffer: collections.deque[memoryview] = collections.deque()
        self._buffered = 0
        self._made = self._closing = self._closed = False
        self._reading = self._writing = self._paused = False
        self._sending = False
        self._room: asyncio.Future[None] | None = None
        self._timer = loop.call_later(HANDSHAKE_S_MAX, self.abort)
        self._shake_hands()

    # What the handshake and each direction wait for.

    def _shake_hands(self) -> None:
        self._watch(reading=False, writing=False)
        try:
            self._sock.do_handshake()
        except ssl.SSLWantReadError:
            self._watch(reading=True, writing=False)
        except ssl.SSLWantWriteError:
            self._watch(reading=False, writing=True)
        except (OSError, ValueError):
            self.abort()
        else:
            self._timer.cancel()
            self._made = True
            self._protocol.connection_made(self)
            if not self._closing:
                self._watch(reading=True, writing=False)
                self._read()

    def _watch(self, *, reading: bool, writing: bool) -> None:
        if self._closed:
            return
        if reading != self._reading:
            self._reading = reading
            if reading:
                self._loop.add_reader(self._fd, self._on_readable)
            else:
                self._loop.remove_reader(self._fd)
        if writing != self._writing:
            self._writing = writing
            if writing:
                self._loop.add_writer(self._fd, self._on_writable)
            else:
                self._loop.remove_writer(self._fd)

    def _on_readable(self) -> None:
        if not self._made:
            self._shake_hands()
            return
        self._read()

    def _on_writable(self) -> None:
        if not self._made:
            self._shake_hands()
            return
        self._watch(reading=self._reading, writing=False)
        if self._room is not None:
            if not self._room.done():
                self._room.set_result(None)
            return
        self._flush()

    def _read(self) -> None:
        """Hand on what has come; OpenSSL may hold more than the socket shows."""
        while self._reading and not self._closing:
            try:
                data = self._sock.recv(READ_BYTES)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except (OSError, ValueError) as error:
                self._end(error if isinstance(error, OSError) else None)
                return
            assert isinstance(self._protocol, asyncio.Protocol)
            if not data:
                self._protocol.eof_received()
                self.close()
                return
            self._protocol.data_received(data)
            # OpenSSL reads no further than a record's end: one that was not full is the last
            # that has come, mostly, and asking would be a system call and an exception.
            if len(data) < RECORD_BYTES and not self._sock.pending():
                return

    # asyncio.Transport

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Send bytes, now or when there is room."""
        if self._closing or not data:
            return
        # Whoever gave a bytearray may change it.
        kept = bytes(data) if isinstance(data, bytearray) else data
        self._buffer.append(memoryview(kept).cast("B"))
        self._buffered += len(self._buffer[-1])
        if len(self._buffer) == 1 and not self._sending:
            self._flush()
        if self._buffered > HIGH_BYTES and not self._paused:
            self._paused = True
            self._protocol.pause_writing()

    def _flush(self) -> None:
        """Send what waits, as far as the socket takes it."""
        while self._buffer and not self._closed:
            head = self._buffer[0]
            try:
                sent = self._sock.send(head[:CHUNK_BYTES])
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                self._watch(reading=self._reading, writing=True)
                return
            except (OSError, ValueError) as error:
                self._end(error if isinstance(error, OSError) else None)
                return
            self._buffered -= sent
            if sent == len(head):
                self._buffer.popleft()
            else:
                self._buffer[0] = head[sent:]
        if self._paused and self._buffered <= LOW_BYTES:
            self._paused = False
            self._protocol.resume_writing()
        if not self._buffer and self._closing:
            self._end(None)

    async def send_file(self, fd: int, offset: int, count: int) -> None:
        """Send a part of a file behind what was written before.

        One buffer serves for all of it: OpenSSL has encrypted what it took.

        Raises
        ------
        OSError
            The connection broke, or the file cannot be read.
        EOFError
            The file ended early.
        """
        self._sending = True
        chunk = bytearray(min(CHUNK_BYTES, count))
        try:
            while self._buffer:
                await self._until_room(self._flush)
            while count:
                got = os.preadv(fd, [memoryview(chunk)[:count]], offset)
                if not got:
                    raise EOFError("a file ended before its size")
                rest = memoryview(chunk)[:got]
                waited = False
                while rest:
                    self._refuse_closed()
                    try:
                        rest = rest[self._sock.send(rest) :]
                    except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                        await self._until_room(_nothing)
                        waited = True
                offset, count = offset + got, count - got
                # Others have their turn, however fast the socket is.
                if not waited:
                    await asyncio.sleep(0)
        finally:
            self._sending = False

    def _refuse_closed(self) -> None:
        if self._closed:
            raise ConnectionResetError("the connection was closed")

    async def _until_room(self, then: Callable[[], None]) -> None:
        self._refuse_closed()
        self._room = self._loop.create_future()
        self._watch(reading=self._reading, writing=True)
        try:
            await self._room
        finally:
            self._room = None
        self._refuse_closed()
        then()

    def close(self) -> None:
        """Close when all is sent."""
        if self._closing:
            return
        self._closing = True
        self._watch(reading=False, writing=self._writing)
        if not self._buffer and not self._sending:
            self._end(None)

    def abort(self) -> None:
        """Close now."""
        self._end(None)

    def _end(self, error: OSError | None) -> None:
        if self._closed:
            return
        self._watch(reading=False, writing=False)
        self._closing = self._closed = True
        self._timer.cancel()
        self._buffer.clear()
        self._buffered = 0
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        if self._made and error is None:
            # Say that nothing was cut off; the other side's answer is not waited for.
            with contextlib.suppress(OSError, ValueError):
                self._sock.unwrap()
        self._sock.close()
        if self._made:
            self._loop.call_soon(self._protocol.connection_lost, error)

    def is_closing(self) -> bool:
        """Say whether it is closed, or about to be."""
        return self._closing

    def pause_reading(self) -> None:
        """Read no more for now."""
        self._watch(reading=False, writing=self._writing)

    def resume_reading(self) -> None:
        """Read again, what OpenSSL holds first."""
        if not self._closing and not self._reading:
            self._watch(reading=True, writing=self._writing)
            self._loop.call_soon(self._read)

    def is_reading(self) -> bool:
        """Say whether it reads."""
        return self._reading

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait to be sent."""
        return self._buffered

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing: the limits are fixed."""

    def can_write_eof(self) -> bool:
        """Say no: TLS has no half-closed connections worth having."""
        return False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand the connection to another protocol."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return who is told of what comes."""
        return self._protocol


def _peer_of(sock: ssl.SSLSocket) -> Any:
    with contextlib.suppress(OSError):
        return sock.getpeername()
    return None


def _nothing() -> None:
    """Do nothing."""
