"""A maker: prepares products of ROOT files for the process that started it.

``python -m evstream.adapters.formats.root_maker SOCKET``
"""

from __future__ import annotations

import contextlib
import logging
import pickle
import resource
import signal
import socket
import sys
from collections import OrderedDict
from collections.abc import Sequence

from evstream import rootio
from evstream.adapters.formats.channel import Channel, GoneError, Order
from evstream.domain.errors import EvstreamError
from evstream.rootio.carrying import carried

_LOG = logging.getLogger(__name__)

MEMORY_BYTES_MAX = 8 << 30
"""Of address space: what takes more is refused as damaged, and harms nobody else."""
INDICES_MAX = 8
"""Of files that were cut last; the others are sent again."""
PIECE_BYTES = 4 << 20


class _NoBytesError(Exception):
    """The source could not be read: whoever reads it knows why."""


class _Source:
    """The file, as the other side reads it."""

    def __init__(self, channel: Channel, size: int) -> None:
        self._channel = channel
        self.size = size

    def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> list[memoryview]:
        """Ask for ranges of bytes."""
        self._channel.send(b"r", pickle.dumps(ranges, pickle.HIGHEST_PROTOCOL))
        kind, content = self._channel.receive()
        if kind != b"b":
            raise _NoBytesError
        found, at = [], 0
        for _, size in ranges:
            found.append(content[at : at + size])
            at += size
        return found


class _Maker:
    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._indices: OrderedDict[str, rootio.SourceIndex] = OrderedDict()

    def work(self) -> None:
        """Prepare what is ordered, until nobody is there any more."""
        self._channel.send(b"h")
        while True:
            _, content = self._channel.receive()
            order: Order = pickle.loads(content)  # noqa: S301 - of the process that started us
            try:
                self._prepare(order)
            except _NoBytesError:
                continue
            except EvstreamError as error:
                self._refuse(error)
            except GoneError:
                raise
            except Exception as error:  # noqa: BLE001 - it is the other side's to raise
                _LOG.exception("evstream: a maker failed")
                self._refuse(RuntimeError(f"a maker failed: {type(error).__name__}: {error}"))

    def _refuse(self, error: Exception) -> None:
        self._channel.send(b"e", pickle.dumps(error, pickle.HIGHEST_PROTOCOL))

    def _prepare(self, order: Order) -> None:
        cut = order.plan(self._index(order.index))
        cut.prepare(_Source(self._channel, order.size))
        content, spools = carried(cut.product)
        for number, spool in enumerate(spools):
            for at in range(0, spool.size, PIECE_BYTES):
                piece = spool.read(at, min(PIECE_BYTES, spool.size - at))
                self._channel.send(b"s", number.to_bytes(4, "little") + piece)
        self._channel.send(b"d", content)

    def _index(self, name: str) -> rootio.SourceIndex:
        if name not in self._indices:
            self._channel.send(b"n")
            kind, content = self._channel.receive()
            if kind != b"i":
                raise _NoBytesError
            self._indices[name] = rootio.SourceIndex.from_bytes(bytes(content))
            if len(self._indices) > INDICES_MAX:
                self._indices.popitem(last=False)
        self._indices.move_to_end(name)
        return self._indices[name]


def main() -> None:
    """Work until the other side is gone."""
    # Who presses Ctrl-C means the edge, which ends its makers when it is done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for kind, most in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_AS, MEMORY_BYTES_MAX)):
        # One that is set lower already, or may not be set, stays.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (most, most))
    channel = Channel(socket.socket(fileno=int(sys.argv[1])))
    try:
        _Maker(channel).work()
    except GoneError:
        channel.close()


if __name__ == "__main__":
    main()
