"""A link between processes that is slow, stalls, breaks, or changes what passes.

It relays TCP connections: real sockets, another pace. Bytes wait for half a round trip in each
direction and pass at a rate that all connections share, so that an edge behind it sees what one
at another site would see of delay and throughput. What it has not is loss: TCP hides that from
applications, and shows it as time.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

CHUNK_BYTES = 64 << 10
IN_FLIGHT_BYTES_MAX = 8 << 20
"""What one direction of a connection holds: above it, whoever sends must wait."""


@dataclass(slots=True)
class Conditions:
    """How the link is now; a test changes it at any time, from its own thread.

    Attributes
    ----------
    delay_s : float
        One way.
    bytes_per_s : float
        Each way, all connections together; 0 for no limit.
    spoil : callable, optional
        Given what came from the server, returns what the client shall see.
    """

    delay_s: float = 0.0
    bytes_per_s: float = 0.0
    spoil: Callable[[bytes], bytes] | None = None


@dataclass(slots=True)
class _Direction:
    free_at: float = 0.0


@dataclass(slots=True)
class Counts:
    """What has passed."""

    connections: int = 0
    to_server: int = 0
    to_client: int = 0


@dataclass
class Wan:
    """A link that listens on a port of its own and leads to a server.

    Attributes
    ----------
    host, port
        What clients connect to.
    door : socket, optional
        Listened at instead; it may be in another network namespace.
    """

    target: tuple[str, int]
    conditions: Conditions = field(default_factory=Conditions)
    counts: Counts = field(default_factory=Counts)
    host: str = "127.0.0.1"
    port: int = 0
    door: socket.socket | None = None

    def __post_init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._open: set[asyncio.Task[None]] = set()
        self._directions = {"up": _Direction(), "down": _Direction()}
        self._refusing = False
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name="wan", daemon=True)

    @property
    def address(self) -> str:
        """HOST:PORT of the link."""
        return f"{self.host}:{self.port}"

    def start(self) -> None:
        """Listen."""
        self._thread.start()
        self._call(self._listen)

    def stall(self) -> None:
        """Let nothing pass any more; connections stay open, and new ones are taken."""
        self._call(self._stall)

    def flow(self) -> None:
        """Let all pass again that has waited."""
        self._call(self._flow)

    def cut(self) -> None:
        """Break all connections, and refuse new ones until `mend`."""
        self._call(self._cut)

    def mend(self) -> None:
        """Take connections again."""
        self._refusing = False

    def close(self) -> None:
        """Break all connections and listen no more."""
        self._call(self._shut)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    def _call(self, what: Callable[[], object]) -> None:
        async def run() -> None:
            result = what()
            if asyncio.iscoroutine(result):
                await result

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(30)

    async def _listen(self) -> None:
        if self.door is not None:
            self._server = await asyncio.start_server(self._accept, sock=self.door)
        else:
            self._server = await asyncio.start_server(self._accept, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def _stall(self) -> None:
        self._flowing.clear()

    def _flow(self) -> None:
        self._flowing.set()

    async def _cut(self) -> None:
        self._refusing = True
        await self._break()

    async def _break(self) -> None:
        tasks = list(self._open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _shut(self) -> None:
        if self._server is not None:
            self._server.close()
        await self._break()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self._refusing:
            writer.transport.abort()
            return
        self._open.add(task)
        self.counts.connections += 1
        there: asyncio.StreamWriter | None = None
        try:
            back, there = await asyncio.open_connection(*self.target)
            # A handshake crosses the link once before its first byte may.
            await asyncio.sleep(2 * self.conditions.delay_s)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass(reader, there, "up"))
                both.create_task(self._pass(back, writer, "down"))
        except* OSError:
            pass
        except* asyncio.CancelledError:
            # It was cut. asyncio's streams take a cancelled handler for a failed one.
            pass
        finally:
            self._open.discard(task)
            for end in (writer, there):
                if end is not None:
                    end.transport.abort()

    async def _pass(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, way: str
    ) -> None:
        """Carry bytes one way until they end, each as late as the link makes it."""
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(
            IN_FLIGHT_BYTES_MAX // CHUNK_BYTES
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take(source, waiting, way))
            group.create_task(self._give(sink, waiting, way))

    async def _take(
        self, source: asyncio.StreamReader, waiting: asyncio.Queue[tuple[float, bytes]], way: str
    ) -> None:
        direction = self._directions[way]
        data = b" "
        while data:
            data = await source.read(CHUNK_BYTES)
            now, rate = self._loop.time(), self.conditions.bytes_per_s
            begin = max(now, direction.free_at)
            direction.free_at = begin + (len(data) / rate if rate else 0.0)
            await waiting.put((direction.free_at + self.conditions.delay_s, data))

    async def _give(
        self, sink: asyncio.StreamWriter, waiting: asyncio.Queue[tuple[float, bytes]], way: str
    ) -> None:
        while True:
            due, data = await waiting.get()
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            await self._flowing.wait()
            if not data:
                if sink.can_write_eof():
                    with suppress(OSError):
                        sink.write_eof()
                return
            if way == "up":
                self.counts.to_server += len(data)
            else:
                self.counts.to_client += len(data)
                data = self.conditions.spoil(data) if self.conditions.spoil else data
            sink.write(data)
            await sink.drain()


@contextmanager
def link(
    target: tuple[str, int],
    conditions: Conditions | None = None,
    door: socket.socket | None = None,
) -> Iterator[Wan]:
    """Open a link to a server; it ends with the context."""
    wan = Wan(target, conditions or Conditions(), door=door)
    wan.start()
    try:
        yield wan
    finally:
        wan.close()
