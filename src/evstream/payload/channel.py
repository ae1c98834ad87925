"""The channel to the pilot: JSON messages, one a line, on a socket of their own."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from typing import Any

VARIABLE = "EVSTREAM_CHANNEL_FD"
"""Names the descriptor of the socket."""
CORES_VARIABLE = "EVSTREAM_CORES"
"""Says how many units the pilot runs at once."""

Message = dict[str, Any]
_RECEIVE_BYTES = 1 << 16


class ChannelError(Exception):
    """There is no channel: nobody who gives units has started this process."""


class Channel:
    """One end of a stream of messages. Blocking; used by one thread."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._received = b""

    @classmethod
    def from_environment(cls) -> Channel:
        """Open the channel that the pilot has left.

        Raises
        ------
        ChannelError
            There is none.
        """
        number = os.environ.get(VARIABLE, "")
        try:
            # Children must not find it: they are not who answers.
            os.set_inheritable(int(number), False)
            return cls(socket.socket(fileno=int(number)))
        except (ValueError, OSError) as error:
            raise ChannelError(
                f"{VARIABLE} names no socket: a pilot starts this program, as in "
                "evstream run ... --payload-kind long-lived --payload 'python program.py'"
            ) from error

    def fileno(self) -> int:
        """Return the descriptor, to wait on."""
        return self._end.fileno()

    def send(self, message: Message) -> None:
        """Send a message."""
        self._end.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> list[Message] | None:
        """Wait for bytes; return the messages that are whole then, or None at the end."""
        try:
            piece = self._end.recv(_RECEIVE_BYTES)
        except ConnectionResetError:
            piece = b""
        if not piece:
            return None
        *lines, self._received = (self._received + piece).split(b"\n")
        return [json.loads(line) for line in lines if line.strip()]

    def messages(self) -> Iterator[Message]:
        """Yield each message until the other end closes, or says ``end``."""
        while (received := self.receive()) is not None:
            for message in received:
                if message["type"] == "end":
                    return
                yield message

    def close(self) -> None:
        """Close this end."""
        self._end.close()
