"""What an edge and its makers say to each other: frames of bytes, through a pair of sockets.

Down go ``p`` (prepare this), ``i`` (an index), ``b`` (the bytes that were asked for) and ``x``
(there are none: give up); up come ``h`` from one that has started, ``r`` with ranges that are
wanted, ``n`` where an index is needed, ``s`` with bytes of a spool, ``d`` with a product and
``e`` with an error.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import Any

from evstream import rootio

_HEAD = struct.Struct("<cQ")
FRAME_BYTES_MAX = 4 << 30
_BUFFER_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Order:
    """A cut, or a selection, that is to be prepared.

    Attributes
    ----------
    index : str
        By which the maker remembers the file's index.
    words : dict
        What `rootio.plan_cut` takes, or `rootio.plan_select` if there are ``entries``.
    """

    index: str
    size: int
    words: dict[str, Any]

    def plan(self, index: rootio.SourceIndex) -> rootio.Cut:
        """Plan it."""
        plan = rootio.plan_select if "entries" in self.words else rootio.plan_cut
        return plan(index, **self.words)


class GoneError(Exception):
    """The other side has ended, or says nothing."""


class Channel:
    """One end. Blocking; the interpreter is free while a frame comes."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        end.settimeout(None)
        # The system grants what it allows.
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)

    def limit(self, silence_s_max: float) -> None:
        """Take the other side for gone if it does nothing for so long."""
        # The system's own time-outs: Python's would come back for each piece.
        limit = struct.pack("@ll", int(silence_s_max), int(silence_s_max % 1 * 1e6))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    def send(self, kind: bytes, content: bytes | memoryview = b"") -> None:
        """Send a frame.

        Raises
        ------
        GoneError
        """
        try:
            self._socket.sendall(_HEAD.pack(kind, len(content)))
            if content:
                self._socket.sendall(content)
        except OSError as error:
            raise GoneError(str(error)) from error

    def receive(self) -> tuple[bytes, memoryview]:
        """Return the next frame.

        Raises
        ------
        GoneError
        """
        kind, size = _HEAD.unpack(self._exactly(_HEAD.size))
        if size > FRAME_BYTES_MAX:
            raise GoneError("it sends nonsense")
        return kind, self._exactly(size)

    def _exactly(self, size: int) -> memoryview:
        content = memoryview(bytearray(size))
        done = 0
        while done < size:
            try:
                got = self._socket.recv_into(content[done:], 0, socket.MSG_WAITALL)
            except OSError as error:
                raise GoneError(str(error)) from error
            if not got:
                raise GoneError("it ended")
            done += got
        return content

    def close(self) -> None:
        """Close this end."""
        self._socket.close()
