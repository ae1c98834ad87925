"""The formats that are known, and what others are, so that refusals can name them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from evstream.domain.errors import RequestError, UnsupportedFormatError
from evstream.ports import ByteSource
from evstream.ports.format import HEAD_BYTES, FileIndex, Format

if TYPE_CHECKING:
    from evstream.adapters.formats.root_makers import RootMakers

TAIL_BYTES = 65_536

_FOREIGN = (
    (0, b"\x1f\x8b", "a gzip file of something else"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard file"),
    (0, b"\xfd7zXZ\0", "an xz file"),
    (0, b"BZh", "a bzip2 file"),
    (0, b"PK\x03\x04", "a zip archive (npz?)"),
    (0, b"\x93NUMPY", "a NumPy array (npy)"),
    (0, b"ARROW1", "an Arrow IPC file (Feather)"),
    (0, b"ORC", "an ORC file"),
    (0, b"SQLite format 3\0", "an SQLite database"),
    (0, b"SIMPLE  =", "a FITS file"),
    (0, b"\x89PNG", "a PNG image"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x7fELF", "a program"),
    (0, b"CDF\x01", "a NetCDF 3 file"),
    (0, b"CDF\x02", "a NetCDF 3 file"),
    # SIO's record marker behind the header's length, in network order.
    (4, b"\xab\xad\xca\xfe", "an LCIO file (slcio)"),
)


class KnownFormats:
    """The `Formats` port: ROOT, Parquet, HDF5, LHE and HepMC.

    Parameters
    ----------
    makers : RootMakers, optional
        Processes that prepare products of ROOT files; those of libraries have their own.
    """

    def __init__(self, makers: RootMakers | None = None) -> None:
        self._makers = makers

    @cached_property
    def _formats(self) -> tuple[Format, ...]:
        # Whoever never looks into a file, such as most pilots, loads none of it.
        from evstream.adapters.formats import hdf5, parquet
        from evstream.adapters.formats.hepmc import hepmc_formats
        from evstream.adapters.formats.lhe import lhe_formats
        from evstream.adapters.formats.library import LibraryFormat
        from evstream.adapters.formats.root import RootFormat

        return (
            RootFormat(makers=self._makers),
            LibraryFormat(parquet.BACKEND),
            LibraryFormat(hdf5.BACKEND),
            *lhe_formats(),
            *hepmc_formats(),
        )

    def recognise(self, source: ByteSource, name: str = "") -> Format:
        """Return the format of a file, by its content."""
        (head,) = source.read_ranges([(0, min(HEAD_BYTES, source.size))])
        return self._of_head(bytes(head), name)

    def inspect(self, source: ByteSource, name: str = "") -> tuple[Format, FileIndex]:
        """Recognise and inspect, reading the file's ends once."""
        remembered = _Remembered(source)
        known = self._of_head(remembered.head, name)
        return known, known.inspect(remembered)

    def named(self, name: str) -> Format:
        """Return a format by the name that descriptors use."""
        for known in self._formats:
            if known.name == name:
                return known
        raise RequestError(
            f"there is no format {name!r}",
            hint=f"choose among {', '.join(known.name for known in self._formats)}",
        )

    def of_file_name(self, name: str) -> Format | None:
        """Return the format whose suffix a file's name has, if any."""
        folded = name.lower()
        for known in self._formats:
            if folded.endswith(known.suffixes):
                return known
        return None

    def _of_head(self, head: bytes, name: str) -> Format:
        for known in self._formats:
            if known.recognises(head):
                return known
        raise UnsupportedFormatError(
            f"{name or 'this'} is {what_it_is(head)}, which is not supported",
            hint="give ROOT, Parquet, HDF5, LHE or HepMC files",
            name=name,
        )


def what_it_is(head: bytes) -> str:
    """Say what a file of none of our formats is, from its beginning."""
    if not head:
        return "an empty file"
    for at, magic, words in _FOREIGN:
        if head[at : at + len(magic)] == magic:
            return words
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        # A character may be cut at the end.
        text = head[: error.start].decode("utf-8") if error.start > len(head) - 4 else ""
    if text and "\0" not in text:
        first = text.lstrip().split("\n", 1)[0][:40].strip()
        return f"a text file that begins with {first!r}"
    return f"a file of unknown kind that begins with {head[:8].hex(' ')}"


class _Remembered:
    """A source whose ends were read in one request and are not asked for again."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self.size = source.size
        head = min(HEAD_BYTES, self.size)
        tail = min(TAIL_BYTES, self.size)
        found = source.read_ranges([(0, head), (self.size - tail, tail)])
        self._ends = [(0, memoryview(found[0])), (self.size - tail, memoryview(found[1]))]

    @property
    def head(self) -> bytes:
        """The first bytes of the file."""
        return bytes(self._ends[0][1])

    def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes | memoryview]:
        """Return each range, from memory where it is."""
        found = [self._find(offset, size) for offset, size in ranges]
        missing = [r for r, data in zip(ranges, found, strict=True) if data is None]
        fresh = iter(self._source.read_ranges(missing) if missing else ())
        return [next(fresh) if data is None else data for data in found]

    def _find(self, offset: int, size: int) -> memoryview | None:
        for start, data in self._ends:
            if start <= offset and size >= 0 and offset + size <= start + len(data):
                return data[offset - start : offset - start + size]
        return None
