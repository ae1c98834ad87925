"""Formats that a compiled library reads, in a process of its own.

What these libraries do with a damaged or a hostile file is not ours to promise: they may
crash, hang, or take all memory. So they run in a child that has limits, and that ends
without harm. It asks this process for the bytes that it needs, and writes the product to
a file. Children are kept for the next call, since starting one takes half a second.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import select as system
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np
import numpy.typing as npt

from evstream.adapters.formats.frames import LENGTH, MESSAGE_BYTES_MAX, Request
from evstream.adapters.formats.spooled import SpooledCut
from evstream.adapters.formats.tables import (
    Branch,
    Index,
    IndexedFormat,
    Int64,
    Joined,
    LeftObject,
    Tree,
    check_range,
    kept_branches,
    not_installed,
    runs_of,
)
from evstream.domain.errors import EvstreamError, error_class
from evstream.domain.intervals import Interval
from evstream.ports import ByteSource
from evstream.ports.format import FileIndex
from evstream.rootio import CorruptFileError, FileSource, SchemaMismatchError
from evstream.rootio.spool import spooled

IDLE_MAX = 2
SILENCE_S_MAX = 120.0
"""A child that neither asks for bytes nor answers for so long hangs."""


class Library:
    """Calls a library in child processes; safe to use from threads.

    Parameters
    ----------
    backend : str
        The module beside this one that the children run: ``parquet`` or ``hdf5``.
    silence_s_max : float
        Seconds.
    """

    def __init__(self, backend: str, silence_s_max: float = SILENCE_S_MAX) -> None:
        self._backend = backend
        self._silence_s_max = silence_s_max
        self._lock = threading.Lock()
        self._idle: list[_Child] = []

    def call(self, request: Request, source: ByteSource | None = None) -> bytes:
        """Let a child do something; return its encoded answer.

        Raises
        ------
        CorruptFileError
            The library crashed, hung or gave up on the file.
        EvstreamError
            What the child raised, or what the source did.
        """
        child = self._take()
        try:
            kind, content = self._talk(child, request, source)
        except (_SilentError, OSError, msgspec.DecodeError) as error:
            why = child.end() or str(error)
            raise CorruptFileError(
                f"the library for {self._backend} files failed on it: {why}",
                hint="compare its size and checksum with the original's",
            ) from error
        except BaseException:
            child.end()
            raise
        self._give_back(child)
        if kind == b"d":
            return content
        raise _error_of(content)

    def _talk(
        self, child: _Child, request: Request, source: ByteSource | None
    ) -> tuple[bytes, bytes]:
        """Give a child what it asks for, until it answers."""
        child.send(msgspec.msgpack.encode(request))
        while True:
            kind, content = child.receive(self._silence_s_max)
            if kind != b"r" or source is None:
                return kind, content
            ranges = msgspec.msgpack.decode(content, type=list[tuple[int, int]])
            child.send(b"".join(source.read_ranges(ranges)))

    def _take(self) -> _Child:
        with self._lock:
            while self._idle:
                child = self._idle.pop()
                if child.alive:
                    return child
        return _Child(self._backend)

    def _give_back(self, child: _Child) -> None:
        with self._lock:
            if len(self._idle) < IDLE_MAX:
                self._idle.append(child)
                return
        child.end()


class _SilentError(Exception):
    """A child has ended, or says nothing."""


class _Child:
    """One process; ends when this one does, since its input ends then."""

    def __init__(self, backend: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "evstream.adapters.formats.library_child", backend],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, content: bytes) -> None:
        view = memoryview(LENGTH.pack(len(content)) + content)
        while view:
            written = self._in.write(view)
            view = view[written or 0 :]

    def receive(self, silence_s_max: float) -> tuple[bytes, bytes]:
        """Return a message's kind and content."""
        (length,) = LENGTH.unpack(self._read(LENGTH.size, silence_s_max))
        if not 1 <= length <= MESSAGE_BYTES_MAX:
            raise _SilentError("it answers with nonsense")
        message = self._read(length, silence_s_max)
        return message[:1], message[1:]

    def _read(self, size: int, silence_s_max: float) -> bytes:
        poll = system.poll()
        poll.register(self._out, system.POLLIN | system.POLLHUP)
        parts: list[bytes] = []
        while size:
            if not poll.poll(silence_s_max * 1000):
                raise _SilentError(f"nothing came of it in {silence_s_max:.0f} s")
            part = self._out.read(min(size, 1 << 20))
            if not part:
                raise _SilentError("it ended")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def end(self) -> str:
        """End it; return how it ended by itself, "" if it did not."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            # One that crashed takes a moment to be gone.
            self._process.wait(0.5 if self._out.closed else 0.1)
        status = self._process.poll()
        self._process.kill()
        self._process.wait()
        self._in.close()
        self._out.close()
        if status is None:
            return ""
        return f"signal {-status}" if status < 0 else f"exit status {status}"

    def __del__(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._in.close()
        self._out.close()


def _error_of(content: bytes) -> EvstreamError:
    code, message, hint = msgspec.msgpack.decode(content, type=tuple[str, str, str])
    return error_class(code)(message, hint=hint)


@dataclass(frozen=True, slots=True)
class Backend:
    """What a format has of its own.

    Attributes
    ----------
    module : str
        Package without which there is no such format; ``extra`` brings it.
    recognises : callable
        Of the first bytes, whether they begin such a file.
    fingerprint : callable
        Of a source, the digest of it that does not need the library.
    """

    name: str
    title: str
    suffixes: tuple[str, ...]
    module: str
    extra: str
    recognises: Callable[[bytes], bool]
    fingerprint: Callable[[ByteSource], str]


class LibraryCut(SpooledCut):
    """A product that a child writes."""

    def __init__(self, library: Library, tree: str, runs: Sequence[Interval]) -> None:
        super().__init__(sum(stop - start for start, stop in runs))
        self._library = library
        self._tree = tree
        self._runs = runs
        self.branches: tuple[str, ...] | None = None

    def make(self, source: ByteSource, out: BinaryIO) -> None:
        """Write the product."""
        branches = None if self.branches is None else list(self.branches)
        runs = list(self._runs)
        request = Request("cut", source.size, [_for_children(out)], self._tree, runs, branches)
        self._library.call(request, source)


class LibraryFormat(IndexedFormat):
    """The `Format` port on a library that runs in children."""

    whole = False

    def __init__(self, backend: Backend, library: Library | None = None) -> None:
        self._backend = backend
        self._library = library or Library(backend.name)
        self._encoder_id = ""
        self.name = backend.name
        self.suffixes = backend.suffixes

    @property
    def encoder_id(self) -> str:
        """Writer and versions of the library, as a child tells them."""
        if not self._encoder_id:
            self._check_installed()
            self._encoder_id = self._library.call(Request("about")).decode()
        return self._encoder_id

    def recognises(self, head: bytes) -> bool:
        """Look at the first bytes."""
        return self._backend.recognises(head)

    def inspect(self, source: ByteSource) -> Index:
        """Take the fingerprint, and let a child read the structure."""
        self._check_installed()
        fingerprint = self._backend.fingerprint(source)
        answer = self._library.call(Request("inspect", source.size), source)
        found = msgspec.msgpack.decode(answer, type=_INSPECTED)
        return Index(
            size=source.size,
            fingerprint=fingerprint,
            trees={
                path: Tree(path, tuple(starts), tuple(Branch(*b) for b in branches), tuple(notes))
                for path, starts, branches, notes in found[0]
            },
            objects=tuple(found[1]),
        )

    def plan_cut(
        self,
        index: FileIndex,
        *,
        tree: str,
        entry_start: int,
        entry_stop: int,
        branches: Sequence[str] | None = None,
        identity: bytes = b"",
    ) -> LibraryCut:
        """Plan entries ``[entry_start, entry_stop)`` of some branches."""
        assert isinstance(index, Index)
        found = index.tree(tree)
        cut = LibraryCut(self._library, tree, check_range(found, entry_start, entry_stop))
        cut.branches = kept_branches(found, branches)
        return cut

    def plan_select(
        self,
        index: FileIndex,
        *,
        tree: str,
        entries: npt.ArrayLike,
        branches: Sequence[str] | None = None,
        identity: bytes = b"",
    ) -> LibraryCut:
        """Plan scattered entries of some branches."""
        assert isinstance(index, Index)
        found = index.tree(tree)
        cut = LibraryCut(self._library, tree, runs_of(found, entries))
        cut.branches = kept_branches(found, branches)
        return cut

    def read_numbers(self, path: Path, tree: str, branches: Sequence[str]) -> Int64 | None:
        """Let a child read columns."""
        self._check_installed()
        with FileSource(path) as source, tempfile.TemporaryFile() as out:
            names = list(branches)
            request = Request("numbers", source.size, [_for_children(out)], tree, branches=names)
            if not self._library.call(request, source):
                return None
            return np.frombuffer(out.read(), np.int64).reshape(-1, len(names))

    def join(
        self,
        inputs: Sequence[Path],
        output: Path,
        *,
        identity: bytes = b"",
        names: Sequence[str] | None = None,
    ) -> Joined:
        """Let a child join files."""
        self._check_installed()
        if not inputs:
            raise SchemaMismatchError("there is nothing to join", hint="give at least one file")
        with spooled(output) as out:
            request = Request(
                "join",
                paths=[_for_children(out), *(str(path.absolute()) for path in inputs)],
                names=list(names) if names is not None else [str(path) for path in inputs],
            )
            answer = self._library.call(request)
        entries = msgspec.msgpack.decode(answer, type=dict[str, int])
        return Joined(entries, output.stat().st_size)

    def _check_installed(self) -> None:
        if importlib.util.find_spec(self._backend.module) is None:
            missing = ImportError(name=self._backend.module)
            raise not_installed(self._backend.title, self._backend.extra, missing)


_INSPECTED = tuple[
    list[tuple[str, list[int], list[tuple[str, str, int, int, str]], list[str]]],
    list[LeftObject],
]


def _for_children(out: BinaryIO) -> str:
    """Return by which name a child opens a file of ours, which may have none."""
    return f"/proc/{os.getpid()}/fd/{out.fileno()}"
