"""Event records in text: a header, the events, a footer. Cuts are runs of the text's bytes.

What LHE and HepMC have in common. Nothing of an event is rewritten, so that slices put
together again are the source, byte for byte. An uncompressed cut is read from the source
as it is sent; a gzipped one is compressed when it is prepared.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from evstream.adapters.formats.spooled import SpooledCut
from evstream.adapters.formats.tables import (
    EVENTS,
    Index,
    IndexedFormat,
    Int64,
    Joined,
    Tree,
    check_range,
    kept_branches,
    runs_of,
)
from evstream.adapters.formats.text_stream import (
    GZIP_MAGIC,
    GzipText,
    PlainText,
    Search,
    new_digest,
    text_of,
)
from evstream.domain.errors import bad_data_named
from evstream.domain.intervals import Interval
from evstream.ports import ByteSource
from evstream.ports.format import Cut, FileIndex
from evstream.rootio import FileSource, SchemaMismatchError, UnsupportedFeatureError
from evstream.rootio.spool import spooled

HEADER_BYTES_MAX = 256 << 20
NUMBER_BYTES = 32
"""At the beginning of an event its number is, if it has any."""
EVENT_NUMBER = "event_number"
GZIP_LEVEL = 6
GZIP_SUFFIX = ".gz"
WRITER_VERSION = 1


class Grammar(Protocol):
    """Where the events of a text format begin and end."""

    name: str
    suffixes: tuple[str, ...]

    def recognises(self, head: bytes) -> bool:
        """Say whether text that begins so is in this format."""
        ...

    def event_starts(self, search: Search) -> list[int]:
        """Return where each event begins, then where the last one ends.

        Raises
        ------
        CorruptFileError
            The text is cut short or contradicts itself.
        UnsupportedFeatureError
            Sound, but not to be cut between events.
        """
        ...

    def number(self, beginning: bytes) -> int | None:
        """Return the number of an event, from `NUMBER_BYTES` of it at most; None if it has none.

        Raises
        ------
        CorruptFileError
        """
        ...

    def difference(self, first: bytes, other: bytes) -> str:
        """Say what keeps events with these headers from being in one file; "" if nothing."""
        ...


@dataclass(frozen=True, kw_only=True)
class TextIndex(Index):
    """Where the events of a text are.

    Attributes
    ----------
    starts : int64, shape (n_events + 1,)
        Offsets in the text, unpacked; the footer begins at the last one.
    text_bytes : int
    """

    text: PlainText | GzipText
    starts: Int64
    text_bytes: int

    def pieces(self, runs: Sequence[Interval]) -> list[Interval]:
        """Return the bytes of header, runs of events, and footer."""
        inner = [(int(self.starts[start]), int(self.starts[stop])) for start, stop in runs]
        whole = [(0, int(self.starts[0])), *inner, (int(self.starts[-1]), self.text_bytes)]
        return [piece for piece in whole if piece[0] < piece[1]]


class PlainCut:
    """Runs of an uncompressed file's bytes; nothing is made, all is read when asked for."""

    boundary_bytes = 0
    beside: tuple[str, ...] = ()
    left_behind: tuple[str, ...] = ()

    def __init__(self, pieces: Sequence[Interval], entries: int) -> None:
        self.entries = entries
        self._pieces = pieces
        lengths = [stop - start for start, stop in pieces]
        self._ends = np.cumsum(lengths, dtype=np.int64)
        self.size = int(self._ends[-1]) if lengths else 0

    def prepare(self, source: ByteSource) -> None:
        """Do nothing: every byte is the source's."""

    def read(self, offset: int, size: int, source: ByteSource) -> bytes:
        """Read the runs that hold some of the product's bytes."""
        stop = min(offset + size, self.size)
        ranges = []
        number = int(np.searchsorted(self._ends, offset, side="right"))
        while offset < stop:
            begin, end = self._pieces[number]
            before = int(self._ends[number]) - (end - begin)
            length = min(stop, int(self._ends[number])) - offset
            ranges.append((begin + offset - before, length))
            offset += length
            number += 1
        return b"".join(source.read_ranges(ranges))


class MadeCut(SpooledCut):
    """The same runs of a gzipped file, or gzipped themselves."""

    def __init__(
        self, index: TextIndex, pieces: Sequence[Interval], entries: int, *, packed: bool
    ) -> None:
        super().__init__(entries)
        self._index = index
        self._pieces = pieces
        self._packed = packed

    def make(self, source: ByteSource, out: BinaryIO) -> None:
        """Write header, events and footer."""
        _write(self._index.text.chunks(source, self._pieces), out, packed=self._packed)


class TextFormat(IndexedFormat):
    """The `Format` port on a grammar, for plain or for gzipped files.

    Parameters
    ----------
    packs : bool, optional
        Whether cuts are gzipped; by default as the files that are read.
    """

    whole = True

    def __init__(self, grammar: Grammar, *, gzipped: bool, packs: bool | None = None) -> None:
        self._grammar = grammar
        self._gzipped = gzipped
        self._packs = gzipped if packs is None else packs
        end = GZIP_SUFFIX if self._packs else ""
        self.name = grammar.name + end
        self.suffixes = tuple(suffix + end for suffix in grammar.suffixes)
        codec = f";zlib={zlib.ZLIB_RUNTIME_VERSION};level={GZIP_LEVEL}" if self._packs else ""
        self.encoder_id = f"evstream-text-{WRITER_VERSION}{codec}"

    def recognises(self, head: bytes) -> bool:
        """Look at the first words of the text."""
        if head.startswith(GZIP_MAGIC) is not self._gzipped:
            return False
        return self._grammar.recognises(_beginning(head) if self._gzipped else head)

    def for_output(self, name: str) -> TextFormat:
        """Return the same, that gzips cuts where the name says so, and else does not."""
        return TextFormat(self._grammar, gzipped=self._gzipped, packs=_is_packed(name))

    def inspect(self, source: ByteSource) -> TextIndex:
        """Read the whole file once: events have no table of contents."""
        text = text_of(source, self._gzipped)
        digest, read = new_digest(), 0

        def counted() -> Iterator[bytes]:
            nonlocal read
            for chunk in text.first_chunks(source, digest):
                read += len(chunk)
                yield chunk

        chunks = counted()
        starts = self._grammar.event_starts(Search(chunks))
        for _ in chunks:
            pass
        if starts[0] > HEADER_BYTES_MAX:
            raise UnsupportedFeatureError(f"the header takes {starts[0]} bytes")
        return TextIndex(
            size=source.size,
            fingerprint=digest.hexdigest(),
            trees={EVENTS: Tree(EVENTS, (0, len(starts) - 1))},
            text=text,
            starts=np.array(starts, np.int64),
            text_bytes=read,
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
    ) -> Cut:
        """Plan header, events ``[entry_start, entry_stop)`` and footer."""
        assert isinstance(index, TextIndex)
        found = index.tree(tree)
        kept_branches(found, branches)
        return self._cut(index, check_range(found, entry_start, entry_stop))

    def plan_select(
        self,
        index: FileIndex,
        *,
        tree: str,
        entries: npt.ArrayLike,
        branches: Sequence[str] | None = None,
        identity: bytes = b"",
    ) -> Cut:
        """Plan header, scattered events and footer."""
        assert isinstance(index, TextIndex)
        found = index.tree(tree)
        kept_branches(found, branches)
        return self._cut(index, runs_of(found, entries))

    def _cut(self, index: TextIndex, runs: Sequence[Interval]) -> Cut:
        pieces = index.pieces(runs)
        entries = sum(stop - start for start, stop in runs)
        if self._packs or self._gzipped:
            return MadeCut(index, pieces, entries, packed=self._packs)
        return PlainCut(pieces, entries)

    def read_numbers(self, path: Path, tree: str, branches: Sequence[str]) -> Int64 | None:
        """Read the numbers of the events, the only ones that are known here."""
        if (tree, list(branches)) != (EVENTS, [EVENT_NUMBER]):
            return None
        with FileSource(path) as source:
            index = self.inspect(source)
            ends = np.minimum(index.starts[:-1] + NUMBER_BYTES, index.starts[1:])
            pieces = list(zip(index.starts[:-1].tolist(), ends.tolist(), strict=True))
            text = b"".join(index.text.chunks(source, pieces))
        numbers, at = [], 0
        for start, stop in pieces:
            number = self._grammar.number(text[at : at + stop - start])
            if number is None:
                return None
            numbers.append(number)
            at += stop - start
        return np.array(numbers, np.int64)[:, None]

    def join(
        self,
        inputs: Sequence[Path],
        output: Path,
        *,
        identity: bytes = b"",
        names: Sequence[str] | None = None,
    ) -> Joined:
        """Join: the first file's header, all events, the last file's footer.

        Gzipped where the output's name says so; inputs may be either.

        Raises
        ------
        SchemaMismatchError
            The headers say different things of the run; the error says which.
        """
        if not inputs:
            raise SchemaMismatchError("there is nothing to join", hint="give at least one file")
        named = list(names) if names is not None else [str(path) for path in inputs]
        indexes = [self._inspect_input(*each) for each in zip(inputs, named, strict=True)]
        self._refuse_differences(inputs, indexes, named)
        pieces = _joined_pieces(inputs, indexes)
        with spooled(output) as out:
            _write(pieces, out, packed=_is_packed(output.name))
        total = sum(index.trees[EVENTS].entries for index in indexes)
        return Joined({EVENTS: total}, output.stat().st_size)

    def _inspect_input(self, path: Path, name: str) -> TextIndex:
        with FileSource(path) as source, bad_data_named(name):
            (head,) = source.read_ranges([(0, min(source.size, 4096))])
            packed = bytes(head).startswith(GZIP_MAGIC)
            reader = TextFormat(self._grammar, gzipped=packed)
            if not reader.recognises(bytes(head)):
                raise SchemaMismatchError(
                    f"{name} is no {self._grammar.name} file", hint="join files of one format"
                )
            return reader.inspect(source)

    def _refuse_differences(
        self, inputs: Sequence[Path], indexes: Sequence[TextIndex], names: Sequence[str]
    ) -> None:
        headers = []
        for path, index, name in zip(inputs, indexes, names, strict=True):
            with FileSource(path) as source:
                headers.append(b"".join(index.text.chunks(source, [(0, int(index.starts[0]))])))
            why = self._grammar.difference(headers[0], headers[-1])
            if why:
                raise SchemaMismatchError(
                    f"{name} and {names[0]} cannot be joined: {why}",
                    hint="join parts of one run only",
                    names=[names[0], name],
                )
            del headers[1:]


def _joined_pieces(inputs: Sequence[Path], indexes: Sequence[TextIndex]) -> Iterator[bytes]:
    for number, (path, index) in enumerate(zip(inputs, indexes, strict=True)):
        start = 0 if number == 0 else int(index.starts[0])
        stop = index.text_bytes if number == len(inputs) - 1 else int(index.starts[-1])
        with FileSource(path) as source:
            yield from index.text.chunks(source, [(start, stop)])


def _is_packed(name: str) -> bool:
    return name.lower().endswith(GZIP_SUFFIX)


def _write(chunks: Iterator[bytes], out: BinaryIO, *, packed: bool) -> None:
    """Write text as it is, or as one gzip member without name and date (RFC 1952)."""
    if not packed:
        out.writelines(chunks)
        return
    packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, 31)
    for chunk in chunks:
        out.write(packer.compress(chunk))
    out.write(packer.flush())


def _beginning(packed: bytes) -> bytes:
    try:
        return zlib.decompressobj(31).decompress(packed, 4096)
    except zlib.error:
        return b""
