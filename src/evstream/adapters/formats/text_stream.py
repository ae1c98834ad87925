"""Text, plain or gzipped, read in pieces: from any offset, and searched from its beginning."""

from __future__ import annotations

import hashlib
import re
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

from evstream.domain.intervals import Interval
from evstream.ports import ByteSource
from evstream.rootio import CorruptFileError

CHUNK_BYTES = 1 << 20
GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WINDOW = 31
# A decompressor's state takes some 50 kB: a file's may take 10 MB.
CHECKPOINTS_MAX = 256
CHECKPOINT_BYTES = 4 << 20
# Event records compress to a tenth; what expands far beyond was made to exhaust us.
EXPANSION_MAX = 200
EXPANSION_FREE_BYTES = 64 << 20


class PlainText:
    """Text as it is stored."""

    def __init__(self, file_bytes: int) -> None:
        self._file_bytes = file_bytes

    def first_chunks(self, source: ByteSource, digest: Any) -> Iterator[bytes]:
        """Yield the whole text once, feeding the file's bytes to a digest."""
        for chunk in _file_chunks(source, 0, self._file_bytes):
            digest.update(chunk)
            yield chunk

    def chunks(self, source: ByteSource, pieces: Sequence[Interval]) -> Iterator[bytes]:
        """Yield pieces ``[start, stop)`` of the text."""
        for start, stop in pieces:
            yield from _file_chunks(source, start, stop)


class GzipText:
    """Text in a gzip file; states kept along the way lead to any offset in little time."""

    def __init__(self, file_bytes: int) -> None:
        self._file_bytes = file_bytes
        self._offsets: list[int] = []
        self._states: list[_Inflation] = []
        self._spacing = CHECKPOINT_BYTES

    def first_chunks(self, source: ByteSource, digest: Any) -> Iterator[bytes]:
        """Yield the whole text once, feeding the file's bytes to a digest.

        Raises
        ------
        CorruptFileError
            It is cut short, damaged, or expands beyond all measure.
        """
        for chunk in _file_chunks(source, 0, self._file_bytes):
            digest.update(chunk)
        inflation = _Inflation()
        while chunk := inflation.next_chunk(source, self._file_bytes):
            if inflation.produced > EXPANSION_FREE_BYTES + EXPANSION_MAX * inflation.position:
                raise CorruptFileError(
                    f"the text is more than {EXPANSION_MAX} times its gzip file",
                    hint="no event file is so; unpack it and look",
                )
            yield chunk
            if inflation.produced >= (self._offsets[-1] if self._offsets else 0) + self._spacing:
                self._keep(inflation)

    def _keep(self, inflation: _Inflation) -> None:
        self._offsets.append(inflation.produced)
        self._states.append(inflation.copy())
        if len(self._states) >= CHECKPOINTS_MAX:
            del self._offsets[::2], self._states[::2]
            self._spacing *= 2

    def chunks(self, source: ByteSource, pieces: Sequence[Interval]) -> Iterator[bytes]:
        """Yield pieces ``[start, stop)`` of the text, which ascend, in one pass."""
        inflation = _Inflation()
        chunk, at = b"", 0  # what was made last, and where it begins
        for start, stop in pieces:
            before = bisect_right(self._offsets, start) - 1
            if before >= 0 and self._offsets[before] > inflation.produced:
                inflation = self._states[before].copy()
                chunk, at = b"", inflation.produced
            while at < stop:
                found = chunk[max(0, start - at) : stop - at]
                if found:
                    yield found
                if stop <= at + len(chunk):
                    break
                at += len(chunk)
                chunk = inflation.next_chunk(source, self._file_bytes)
                if not chunk:
                    raise CorruptFileError("the gzip file became shorter", hint="fetch it again")


class _Inflation:
    """Where decompression has come to: bytes used of the file, and bytes made."""

    def __init__(self) -> None:
        self.position = 0
        self.produced = 0
        self._inflate = zlib.decompressobj(_GZIP_WINDOW)
        self._pending = b""

    def copy(self) -> _Inflation:
        """Return a state that goes on by itself."""
        other = _Inflation()
        other.position, other.produced = self.position, self.produced
        other._inflate, other._pending = self._inflate.copy(), self._pending
        return other

    def next_chunk(self, source: ByteSource, file_bytes: int) -> bytes:
        """Return what follows, at most `CHUNK_BYTES`; members are put together.

        Nothing is returned at the end alone.
        """
        while True:
            if not self._pending:
                size = min(CHUNK_BYTES // 4, file_bytes - self.position)
                if size:
                    self._pending = _read(source, self.position, size)
                    self.position += size
                elif self._inflate.eof:
                    return b""
            if self._inflate.eof:
                # Zeros behind a member are padding, as gzip itself takes them.
                self._pending = self._pending.lstrip(b"\0")
                if not self._pending:
                    continue
                self._inflate = zlib.decompressobj(_GZIP_WINDOW)
            made = self._decompress()
            if made:
                self.produced += len(made)
                return made
            if not (self._pending or self._inflate.eof) and self.position >= file_bytes:
                raise CorruptFileError("the gzip file is cut short", hint="fetch the file again")

    def _decompress(self) -> bytes:
        try:
            made = self._inflate.decompress(self._pending, CHUNK_BYTES)
        except zlib.error as error:
            raise CorruptFileError(
                f"the gzip data is damaged: {error}", hint="fetch the file again"
            ) from error
        rest = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail
        self._pending = rest
        return made


def _file_chunks(source: ByteSource, start: int, stop: int) -> Iterator[bytes]:
    for offset in range(start, stop, CHUNK_BYTES):
        yield _read(source, offset, min(CHUNK_BYTES, stop - offset))


def _read(source: ByteSource, offset: int, size: int) -> bytes:
    (found,) = source.read_ranges([(offset, size)])
    if len(found) != size:
        raise CorruptFileError(
            f"asked for {size} bytes at {offset}, got {len(found)}",
            hint="the file became shorter, or the transfer broke",
        )
    return bytes(found)


def text_of(source: ByteSource, gzipped: bool) -> PlainText | GzipText:
    """Return how the text of a file is read."""
    return GzipText(source.size) if gzipped else PlainText(source.size)


class Search:
    """Finds marks in text that comes in pieces, from the beginning to the end.

    Parameters
    ----------
    mark_bytes_max : int
        No mark is longer than this.
    """

    def __init__(self, chunks: Iterator[bytes], mark_bytes_max: int = 256) -> None:
        self._chunks = chunks
        self._mark_bytes_max = mark_bytes_max
        self._buffer = b""
        self._base = 0
        self._at = 0
        self._ended = False

    def find(self, mark: re.Pattern[bytes], *, greedy: bool = False) -> tuple[int, int, bytes]:
        """Return start, stop and bytes of the next mark; at the end, empty bytes.

        Parameters
        ----------
        greedy : bool
            The mark might go on in the next piece, as one that ends with ``*`` may.
        """
        while True:
            match = mark.search(self._buffer, self._at)
            if match and (self._ended or not greedy or match.end() < len(self._buffer)):
                self._at = match.end()
                return self._base + match.start(), self._base + match.end(), match[0]
            if self._ended:
                end = self._base + len(self._buffer)
                return end, end, b""
            # What comes before the mark is not looked at again.
            keep = max(self._at, len(self._buffer) - self._mark_bytes_max)
            if match:
                keep = match.start()
            chunk = next(self._chunks, b"")
            self._ended = not chunk
            self._base += keep
            self._buffer = self._buffer[keep:] + chunk
            self._at = 0


def new_digest() -> Any:
    """Return what makes a text file's fingerprint."""
    return hashlib.sha256()
