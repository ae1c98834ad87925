"""Makers of ROOT products: processes that compute, so that the one that answers need not.

A maker knows no source, no key and no network: it is told what to prepare, asks for the bytes
that it needs, and gives back what it has made. So replicas, time-outs and who may read what
stay where they are. What crosses is pickled: both sides are this program.
"""

from __future__ import annotations

import contextlib
import pickle
import socket
import subprocess
import sys
import threading
from typing import Any

from evstream import rootio
from evstream.adapters.formats.channel import Channel, GoneError, Order
from evstream.ports import ByteSource
from evstream.rootio import CorruptFileError
from evstream.rootio.carrying import uncarried
from evstream.rootio.spool import Spool

SILENCE_S_MAX = 120.0
"""A maker that neither asks for bytes nor answers for so long hangs."""
START_S_MAX = 120.0
TRIES = 2
"""A maker may have been ended by anybody; what ends two of them is not tried on a third."""
STARTED_AFTER_S = 0.5
"""Beyond those that were there at first, one more is started for who has waited so long for one
of them: to start takes longer than most cuts, and as much CPU as dozens of them."""
END_S = 0.5
"""A maker that is not needed any more has so long to end by itself."""


class RootMakers:
    """Prepares cuts in other processes; safe to use from threads. Blocking.

    Parameters
    ----------
    processes_max : int
        Cuts that are prepared at once; who comes then waits.
    silence_s_max : float
        Seconds.
    """

    def __init__(self, processes_max: int, silence_s_max: float = SILENCE_S_MAX) -> None:
        self._free = threading.BoundedSemaphore(processes_max)
        self._silence_s_max = silence_s_max
        self._freed = threading.Condition()
        self._idle: list[_Maker] = []
        self._at_first = 1
        self._living = 0
        self._closed = False

    def start(self, count: int) -> None:
        """Start some before they are needed; they need not be waited for."""
        self._at_first = max(1, count)
        for _ in range(count):
            self._give_back(self._started())

    def prepare(
        self, cut: rootio.Cut, index: rootio.SourceIndex, words: dict[str, Any], source: ByteSource
    ) -> None:
        """Do what `rootio.Cut.prepare` does.

        Parameters
        ----------
        words : dict
            By which the cut was planned.

        Raises
        ------
        CorruptFileError
            Two makers ended on it.
        EvstreamError
            What the maker raised, or what the source did.
        """
        order = Order(f"{index.fingerprint} {index.size}", source.size, words)
        with self._free:
            for attempt in range(TRIES):
                maker = self._take()
                try:
                    cut.adopt(maker.prepare(order, index, source))
                except GoneError as gone:
                    why = self._end(maker) or str(gone)
                    if attempt < TRIES - 1:
                        continue
                    raise CorruptFileError(
                        f"makers ended on {cut.tree}: {why}",
                        hint="compare the file's size and checksum with the original's",
                    ) from gone
                except (Exception, KeyboardInterrupt):
                    self._give_back(maker)
                    raise
                self._give_back(maker)
                return

    def _take(self) -> _Maker:
        while True:
            with self._freed:
                self._freed.wait_for(
                    lambda: self._idle or self._living < self._at_first, STARTED_AFTER_S
                )
                maker = self._idle.pop() if self._idle else None
            if maker is None:
                return self._started()
            if maker.alive:
                return maker
            self._end(maker)

    def _started(self) -> _Maker:
        with self._freed:
            self._living += 1
        try:
            return _Maker(self._silence_s_max)
        except BaseException:
            with self._freed:
                self._living -= 1
            raise

    def _end(self, maker: _Maker) -> str:
        with self._freed:
            self._living -= 1
            # Who waits for it may start another.
            self._freed.notify()
        return maker.end()

    def _give_back(self, maker: _Maker) -> None:
        with self._freed:
            if not self._closed:
                self._idle.append(maker)
                self._freed.notify()
                return
        self._end(maker)

    def close(self) -> None:
        """End the makers; one that works ends when it is done."""
        with self._freed:
            self._closed = True
            idle, self._idle = self._idle, []
        for maker in idle:
            self._end(maker)


class _Maker:
    """One process; it ends when this one does, for its socket is closed then."""

    def __init__(self, silence_s_max: float) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "evstream.adapters.formats.root_maker",
                    str(theirs.fileno()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self._channel = Channel(ours)
        self._channel.limit(START_S_MAX)
        self._silence_s_max = silence_s_max
        self._has_started = False

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def prepare(
        self, order: Order, index: rootio.SourceIndex, source: ByteSource
    ) -> rootio.Product:
        """Have a cut prepared; give the maker what it asks for until it answers."""
        channel, spools = self._channel, dict[int, Spool]()
        if not self._has_started:
            channel.receive()
            channel.limit(self._silence_s_max)
            self._has_started = True
        channel.send(b"p", pickle.dumps(order, pickle.HIGHEST_PROTOCOL))
        while True:
            kind, content = channel.receive()
            match kind:
                case b"r":
                    self._give_bytes(source, pickle.loads(content))  # noqa: S301 - our own maker
                case b"n":
                    channel.send(b"i", index.to_bytes())
                case b"s":
                    number = int.from_bytes(content[:4], "little")
                    spools.setdefault(number, Spool()).append(bytes(content[4:]))
                case b"d":
                    return uncarried(content, [spools[number] for number in sorted(spools)])
                case b"e":
                    raise pickle.loads(content)  # noqa: S301 - our own maker
                case _:
                    raise GoneError("it sends nonsense")

    def _give_bytes(self, source: ByteSource, ranges: list[tuple[int, int]]) -> None:
        try:
            found = source.read_ranges(ranges)
            for (_, size), data in zip(ranges, found, strict=True):
                if len(data) != size:
                    raise CorruptFileError(
                        f"asked for {size} bytes, got {len(data)}",
                        hint="the file became shorter, or the transfer broke",
                    )
        except BaseException:
            with contextlib.suppress(GoneError):
                self._channel.send(b"x")
            raise
        self._channel.send(b"b", b"".join(found))

    def end(self) -> str:
        """End it; return how it ended by itself, "" if it did not."""
        self._channel.close()
        try:
            # One that crashed takes a moment to be gone; one that waits ends now.
            status = self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return ""
        return f"signal {-status}" if status < 0 else f"exit status {status}" if status else ""
