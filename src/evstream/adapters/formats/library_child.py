"""The child in which a library reads files: ``python -m … parquet|hdf5``."""

from __future__ import annotations

import importlib
import os
import resource
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO

import msgspec

from evstream.adapters.formats.frames import LENGTH, MESSAGE_BYTES_MAX, Request
from evstream.domain.errors import EvstreamError
from evstream.rootio import CorruptFileError

MEMORY_BYTES_MAX = 8 << 30
"""Of address space: a row group of some gigabytes fits, a lie about sizes does not."""


class _Parent:
    """The pipes to the process that called us."""

    def __init__(self, inward: BinaryIO, outward: BinaryIO) -> None:
        self._in = inward
        self._out = outward

    def receive(self) -> bytes:
        """Return a message; nothing when the parent is gone."""
        head = self._in.read(LENGTH.size)
        if len(head) < LENGTH.size:
            return b""
        return self._in.read(LENGTH.unpack(head)[0])

    def send(self, kind: bytes, content: bytes) -> None:
        """Send a message."""
        self._out.write(LENGTH.pack(len(content) + 1) + kind + content)
        self._out.flush()


class _Source:
    """The file, as the parent reads it."""

    def __init__(self, parent: _Parent, size: int) -> None:
        self._parent = parent
        self.size = size

    def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Ask for ranges of bytes."""
        for offset, size in ranges:
            if offset < 0 or not 0 <= size <= MESSAGE_BYTES_MAX or offset + size > self.size:
                raise CorruptFileError(
                    f"bytes {offset} to {offset + size} lie outside a file of {self.size} bytes",
                    hint="the file may be truncated; compare its size with the catalogue's",
                )
        self._parent.send(b"r", msgspec.msgpack.encode(ranges))
        content = self._parent.receive()
        if len(content) != sum(size for _, size in ranges):
            raise CorruptFileError("the file became shorter", hint="fetch it again")
        found = []
        at = 0
        for _, size in ranges:
            found.append(content[at : at + size])
            at += size
        return found


def main() -> None:
    """Answer requests until there are no more."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    # Libraries that print must not be heard where answers are expected.
    outward = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    parent = _Parent(sys.stdin.buffer, outward)
    backend = importlib.import_module(f"evstream.adapters.formats.{sys.argv[1]}")
    while message := parent.receive():
        try:
            answer = _answer(backend, msgspec.msgpack.decode(message, type=Request), parent)
        except EvstreamError as error:
            told = (error.code, error.message, error.hint)
            parent.send(b"e", msgspec.msgpack.encode(told))
        else:
            parent.send(b"d", answer)


def _answer(backend: Any, request: Request, parent: _Parent) -> bytes:
    source = _Source(parent, request.size)
    if request.do == "about":
        return str(backend.encoder_id()).encode()
    if request.do == "inspect":
        trees, objects = backend.inspect(source)
        plain = [
            (
                tree.path,
                tree.cluster_starts,
                [(b.name, b.type, b.compressed_bytes, b.baskets, b.title) for b in tree.branches],
                tree.notes,
            )
            for tree in trees
        ]
        return msgspec.msgpack.encode((plain, objects))
    if request.do == "cut":
        (out,) = request.paths
        backend.cut(source, out, request.tree, request.runs, request.branches)
        return b""
    if request.do == "numbers":
        (out,) = request.paths
        rows = backend.numbers(source, request.tree, request.branches)
        if rows is not None:
            rows.tofile(out)
        return b"" if rows is None else b"rows"
    out, *inputs = request.paths
    return msgspec.msgpack.encode(backend.join(out, inputs, request.names))


if __name__ == "__main__":
    main()
