"""Workers after one initialisation: forked from it, each with one unit at a time."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import pickle
import select
import selectors
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from evstream.payload.channel import CORES_VARIABLE, Channel, Message
from evstream.payload.units import Unit, received

Process = Callable[[Unit], None]
Initialise = Callable[[], None]

IDLE_DEATHS_MAX = 5
"""So many workers in a row that died without a unit: another would die as well."""

_PR_SET_PDEATHSIG = 1


def serve(process: Process, initialise: Initialise | None = None, workers: int = 0) -> None:
    """Initialise, tell the pilot, and have units processed by workers until the end.

    Workers are forked after `initialise`, so that what it has made is shared. Forking
    is safe from a single thread only; if `initialise` leaves threads behind, workers
    are new processes that each initialise for themselves: `process` and `initialise`
    must then be picklable as they are given, as functions of a module are, and the call
    of `serve` stand under ``if __name__ == "__main__"``. A worker that dies fails the
    unit that it was on, and no other; another takes its place.

    Parameters
    ----------
    process : callable
        Given a `Unit`; writes its outputs. What it raises fails the unit.
    initialise : callable, optional
        Called once, before the first unit.
    workers : int
        How many units are processed at once; 0 is as many as the pilot has cores.

    Raises
    ------
    ChannelError
        Nobody gives units to this process.
    """
    channel = Channel.from_environment()
    # As they are now: what the initialisation makes may not go to other processes.
    given = _pickled(process, initialise)
    if initialise is not None:
        initialise()
    count = workers or int(os.environ.get(CORES_VARIABLE, "1"))
    start: Callable[[Scatterer], Worker] = _fork
    if not is_single_threaded():
        print(
            "evstream: the initialisation left threads behind, so that workers cannot be "
            "forked from it; each initialises for itself",
            file=sys.stderr,
        )
        start = _spawn
    Scatterer(channel, process, given, start, count).run()


def _pickled(process: Process, initialise: Initialise | None) -> bytes:
    try:
        return pickle.dumps((process, initialise))
    except Exception as error:  # noqa: BLE001 - objects raise whatever they like
        # Needed only if workers cannot be forked; loading it raises this then.
        return pickle.dumps(_NotPicklable(f"workers cannot be given the payload: {error}"))


class _NotPicklable:
    """Raises when it is loaded."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def __reduce__(self) -> tuple[object, ...]:
        return _refuse, (self._reason,)


def _refuse(reason: str) -> None:
    raise TypeError(reason)


def is_single_threaded() -> bool:
    """Whether this process has one thread, those that Python does not know included."""
    try:
        threads = len(list(Path("/proc/self/task").iterdir()))
    except OSError:
        threads = threading.active_count()
    return max(threads, threading.active_count()) == 1


class Worker:
    """A worker as its parent sees it: a process number, a channel, the unit it is on.

    Attributes
    ----------
    unit : dict or None
        The message of the unit that it was given last.
    busy : bool
        It has not answered for that unit.
    life : int or None
        A descriptor that becomes readable when it ends; None where the system has none.
    file : str
        The growing file that it has open; empty if there is none. Whatever else is to be
        done, this worker waits for the next unit of that file.
    """

    def __init__(self, pid: int, end: socket.socket, wait: Callable[[], int], ready: bool) -> None:
        self.pid = pid
        self.ready = ready
        self.channel = Channel(end)
        self.life = _watched(pid)
        self.unit: Message | None = None
        self.busy = False
        self.file = ""
        self.wait = wait

    def close(self) -> None:
        """Close what is open of it in this process."""
        self.channel.close()
        if self.life is not None:
            os.close(self.life)
            self.life = None

    def was_given(self, unit: str) -> bool:
        """Whether it was given a unit, and no other since."""
        return self.unit is not None and self.unit["id"] == unit

    def give(self, unit: Message) -> None:
        """Give it a unit."""
        self.unit, self.busy, self.file = unit, True, ""
        # One that has just died is found out by its channel's end.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.channel.send(unit)

    def answered(self, message: Message) -> None:
        """Note its answer: it is free, or waits for the next unit of its file."""
        assert self.unit is not None
        goes_on = message["type"] == "done" and message["open"]
        self.busy, self.file = False, self.unit["file"] if goes_on else ""

    def takes(self, unit: Message) -> bool:
        """Whether it would take a unit now."""
        return self.ready and not self.busy and self.file in ("", unit["file"])


class Scatterer:
    """Gives each unit to whoever is free, and passes the answers on."""

    def __init__(
        self,
        channel: Channel,
        process: Process,
        pickled: bytes,
        start: Callable[[Scatterer], Worker],
        count: int,
    ) -> None:
        self.channel = channel
        self.process = process
        self.pickled = pickled
        self.workers: list[Worker] = []
        self._start = start
        self._count = count
        self._idle_deaths = 0
        self._said_ready = False
        self._waiting: deque[Message] = deque()
        self._lost_files: set[str] = set()
        self._selector = selectors.DefaultSelector()

    def run(self) -> None:
        """Serve until the pilot ends it, or is gone."""
        self._selector.register(self.channel, selectors.EVENT_READ)
        for _ in range(self._count):
            self._add_worker()
        self._say_ready()
        clean = False
        try:
            while (ended := self._step()) is None:
                pass
            clean = ended
        finally:
            for worker in self.workers:
                worker.close()
                if not clean:
                    _kill(worker.pid)
            for worker in self.workers:
                worker.wait()

    def _step(self) -> bool | None:
        """Handle what has come; returns how it ended, if it has: by the pilot's word or not."""
        for key, _ in self._selector.select():
            if key.data is not None:
                key.data()
                continue
            messages = self.channel.receive()
            if messages is None:
                return False
            for message in messages:
                if message["type"] == "end":
                    return True
                self._from_pilot(message)
        self._hand_out()
        return None

    def _from_pilot(self, message: Message) -> None:
        if message["type"] == "unit":
            self._waiting.append(message)
        elif message["type"] == "cancel":
            for waiting in [one for one in self._waiting if one["id"] == message["id"]]:
                self._waiting.remove(waiting)
                self._say_failed(waiting["id"], "it was cancelled before it began")
            for worker in self.workers:
                if worker.was_given(message["id"]) and worker.busy:
                    _kill(worker.pid)
                elif worker.was_given(message["id"]):
                    # It has answered meanwhile; its file is not to be gone on with.
                    worker.file = ""

    def _has_ended(self, worker: Worker) -> None:
        """Pass on what it said last, and replace it."""
        # Not by the end of its channel alone: children that it leaves have that open too.
        while worker in self.workers and _is_readable(worker.channel):
            self._from_worker(worker)
        if worker in self.workers:
            self._replace(worker)

    def _from_worker(self, worker: Worker) -> None:
        if worker not in self.workers:
            return
        messages = worker.channel.receive()
        if messages is None:
            self._replace(worker)
            return
        for message in messages:
            if message["type"] == "ready":
                worker.ready = True
                self._say_ready()
                continue
            if message["type"] in ("done", "error"):
                worker.answered(message)
                self._idle_deaths = 0
            self.channel.send(message)

    def _replace(self, worker: Worker) -> None:
        self._selector.unregister(worker.channel)
        if worker.life is not None:
            self._selector.unregister(worker.life)
        self.workers.remove(worker)
        worker.close()
        status = worker.wait()
        if worker.busy and worker.unit is not None:
            self._say_failed(worker.unit["id"], f"its worker {_how_it_ended(status)}")
        else:
            if worker.file:
                self._lost_files.add(worker.file)
            self._idle_deaths += 1
            if self._idle_deaths >= IDLE_DEATHS_MAX:
                raise RuntimeError(f"{self._idle_deaths} workers died before they had a unit")
        self._add_worker()

    def _say_ready(self) -> None:
        """Tell the pilot, once, that there is a worker which has initialised."""
        if not self._said_ready and any(worker.ready for worker in self.workers):
            self._said_ready = True
            self.channel.send({"type": "ready", "units_max": self._count})

    def _say_failed(self, unit: str, reason: str) -> None:
        self.channel.send({"type": "error", "id": unit, "reason": reason})

    def _add_worker(self) -> None:
        worker = self._start(self)
        self.workers.append(worker)
        read = selectors.EVENT_READ
        self._selector.register(worker.channel, read, partial(self._from_worker, worker))
        if worker.life is not None:
            self._selector.register(worker.life, read, partial(self._has_ended, worker))

    def _hand_out(self) -> None:
        for unit in list(self._waiting):
            if unit["file"] in self._lost_files:
                self._lost_files.remove(unit["file"])
                self._waiting.remove(unit)
                self._say_failed(unit["id"], "the worker that had its file open has died")
                continue
            holders = [worker for worker in self.workers if worker.file == unit["file"]]
            taker = next((one for one in holders or self.workers if one.takes(unit)), None)
            if taker is not None:
                self._waiting.remove(unit)
                taker.give(unit)


def _fork(scatterer: Scatterer) -> Worker:
    ours, theirs = socket.socketpair()
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            # The parent's ends are not the worker's: each must see the other's end close.
            ours.close()
            scatterer.channel.close()
            for other in scatterer.workers:
                other.close()
            work(Channel(theirs), scatterer.process, parent)
            status = 0
        except BaseException:  # noqa: BLE001 - whatever it is ends in this process
            sys.excepthook(*sys.exc_info())
        finally:
            _flush()
            # Not by returning: what the parent has on its stack is the parent's.
            os._exit(status)
    theirs.close()
    return Worker(pid, ours, lambda: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), True)


def _spawn(scatterer: Scatterer) -> Worker:
    ours, theirs = socket.socketpair()
    child = multiprocessing.get_context("spawn").Process(
        target=_initialise_and_work,
        args=(theirs, scatterer.pickled, os.getpid()),
    )
    child.start()
    theirs.close()
    assert child.pid is not None

    def wait() -> int:
        child.join()
        return child.exitcode or 0

    return Worker(child.pid, ours, wait, False)


def _initialise_and_work(end: socket.socket, pickled: bytes, parent: int) -> None:
    process, initialise = pickle.loads(pickled)  # noqa: S301 - from our own parent
    if initialise is not None:
        initialise()
    channel = Channel(end)
    channel.send({"type": "ready"})
    work(channel, process, parent)


def work(channel: Channel, process: Process, parent: int) -> None:
    """Process what comes over a channel, one unit after another: a worker's life."""
    _die_with(parent)
    for unit in received(channel):
        with written_to(unit.log), unit:
            process(unit)
            _flush()


@contextlib.contextmanager
def written_to(log: Path) -> Iterator[None]:
    """Have what is written to standard output and error go to a unit's log."""
    _flush()
    kept = [os.dup(number) for number in (1, 2)]
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        for number in (1, 2):
            os.dup2(file, number)
        yield
    finally:
        _flush()
        os.close(file)
        for number, former in zip((1, 2), kept, strict=True):
            os.dup2(former, number)
            os.close(former)


def _flush() -> None:
    """Write out what Python and the C library hold back."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    ctypes.CDLL(None).fflush(None)


def _die_with(parent: int) -> None:
    """Have this process killed when its parent ends, however that ends."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        # It has gone before it was asked for.
        os._exit(1)


def _watched(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        # Older kernels and other systems: the end of its channel must do.
        return None


def _is_readable(channel: Channel) -> bool:
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    return bool(poll.poll(0))


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _how_it_ended(status: int) -> str:
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
