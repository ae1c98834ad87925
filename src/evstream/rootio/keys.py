"""TKey: the header in front of every record of a ROOT file.

Source: TKey::Streamer and TKey::FillBuffer of ROOT 6.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from struct import Struct

from evstream.rootio.errors import CorruptFileError
from evstream.rootio.primitives import BIG_FILE_START, read_string, write_string
from evstream.rootio.source import Data

# nbytes, version, object length, date, key length, cycle
KEY_HEAD = Struct(">ihiIhh")
SEEKS_SMALL = Struct(">ii")
SEEKS_BIG = Struct(">qq")

SEEKS_AT = KEY_HEAD.size
# A key with eight-byte positions adds this to its version.
BIG_KEY_VERSION = 1000
KEY_VERSION = 4
# The 16 high bits of a big key's directory position are an offset to process ids.
PID_SHIFT = 48
PDIR_MASK = (1 << PID_SHIFT) - 1
PIDS_MAX = 0x7FFF
"""Process ids that a file can have: the field is signed as a whole."""


@dataclass(frozen=True, slots=True)
class Key:
    """One record's header.

    Attributes
    ----------
    nbytes : int
        Length of header and payload as stored.
    object_bytes : int
        Length of the payload once decompressed.
    key_bytes : int
        Length of this header. A basket's is longer than its own fields need,
        since the basket's counters follow the title.
    seek, seek_directory : int
        Where the record itself and its directory's begin.
    """

    nbytes: int
    version: int
    object_bytes: int
    date: int
    key_bytes: int
    cycle: int
    seek: int
    seek_directory: int
    class_name: str
    name: str
    title: str

    @property
    def big(self) -> bool:
        """Whether positions take eight bytes."""
        return self.version > BIG_KEY_VERSION

    @property
    def pids(self) -> int:
        """How many process ids the record's references skip."""
        return self.seek_directory >> PID_SHIFT if self.big else 0

    @property
    def payload(self) -> tuple[int, int]:
        """Offset and size of the payload in the file."""
        return self.seek + self.key_bytes, self.nbytes - self.key_bytes


def read_key(data: Data, at: int = 0) -> tuple[Key, int]:
    """Decode a key and return it with the position behind its title.

    Raises
    ------
    CorruptFileError
        Lengths that no record can have.
    """
    if at + SEEKS_AT + 8 > len(data):
        raise CorruptFileError("a key's header is cut off", offset=at)
    nbytes, version, object_bytes, date, key_bytes, cycle = KEY_HEAD.unpack_from(data, at)
    seeks = SEEKS_BIG if version > BIG_KEY_VERSION else SEEKS_SMALL
    seek, directory = seeks.unpack_from(data, at + SEEKS_AT)
    behind = at + SEEKS_AT + seeks.size
    class_name, behind = read_string(data, behind)
    name, behind = read_string(data, behind)
    title, behind = read_string(data, behind)
    # ROOT counted a directory's header with "TDirectory", whatever name it then wrote.
    slack = 4 if class_name == "TDirectoryFile" else 0
    if object_bytes < 0 or key_bytes + slack < behind - at or 0 < nbytes < key_bytes or seek < 0:
        raise CorruptFileError(f"the key of {name!r} has impossible lengths", name=name)
    key = Key(
        nbytes, version, object_bytes, date, key_bytes, cycle,
        seek, directory, class_name, name, title,
    )  # fmt: skip
    return key, behind


def folder_of(path: str, key: Key) -> str:
    """Return the directory of what is at a path: the path does not say, if the name has a slash."""
    return path[: -len(key.name) - 1]


def key_size(class_name: str, name: str, title: str, *, big: bool) -> int:
    """Length of a plain key's header in bytes."""
    strings = len(write_string(class_name)) + len(write_string(name)) + len(write_string(title))
    return SEEKS_AT + (16 if big else 8) + strings


def needs_big(seek: int) -> bool:
    """Whether a record at this position must have eight-byte positions."""
    return seek > BIG_FILE_START


def write_key(key: Key) -> bytes:
    """Encode a key; the caller appends a basket's own counters if there are any."""
    seeks = SEEKS_BIG if key.big else SEEKS_SMALL
    return b"".join(
        (
            KEY_HEAD.pack(
                key.nbytes, key.version, key.object_bytes, key.date, key.key_bytes, key.cycle
            ),
            seeks.pack(key.seek, key.seek_directory),
            write_string(key.class_name),
            write_string(key.name),
            write_string(key.title),
        )
    )


def make_key(  # noqa: PLR0913 - a key has that many fields
    class_name: str,
    name: str,
    title: str,
    *,
    payload_bytes: int,
    object_bytes: int,
    seek: int,
    seek_directory: int,
    date: int,
    cycle: int = 1,
    big: bool | None = None,
    extra_bytes: int = 0,
) -> Key:
    """Describe a record that is to be written at a position.

    Parameters
    ----------
    payload_bytes, object_bytes : int
        Lengths as stored and once decompressed.
    big : bool, optional
        Force the width of positions; by default as the position needs.
    extra_bytes : int
        What follows the title within the header, for baskets.
    """
    if big is None:
        big = needs_big(seek)
    key_bytes = key_size(class_name, name, title, big=big) + extra_bytes
    version = KEY_VERSION + BIG_KEY_VERSION if big else KEY_VERSION
    return Key(
        key_bytes + payload_bytes, version, object_bytes, date, key_bytes, cycle,
        seek, seek_directory, class_name, name, title,
    )  # fmt: skip


def moved(key: Key, seek: int, directory: int) -> Key:
    """Return the key of a record at another place; its references stay with their process ids."""
    return with_pids(replace(key, seek=seek, seek_directory=directory), key.pids)


def with_pids(key: Key, pids: int) -> Key:
    """Return a key, with eight-byte positions, whose references skip so many process ids."""
    directory = key.seek_directory & PDIR_MASK
    return replace(key, seek_directory=directory | pids << PID_SHIFT)


def widened(key: Key) -> Key:
    """Return a key with eight-byte positions, which is longer."""
    longer = SEEKS_BIG.size - SEEKS_SMALL.size
    return replace(
        key,
        version=KEY_VERSION + BIG_KEY_VERSION,
        nbytes=key.nbytes + longer,
        key_bytes=key.key_bytes + longer,
    )


def widened_within(key: Key, *, cut_name: bool) -> Key | None:
    """Return a key with eight-byte positions and of the same length, for what counts from it.

    Its title is shortened, and with ``cut_name`` its name, as far as they go; None if that
    makes no room.
    """
    spare = SEEKS_BIG.size - SEEKS_SMALL.size
    title = key.title[: max(0, len(key.title) - spare)]
    name = key.name
    if cut_name:
        spare -= len(key.title) - len(title)
        name = name[: max(0, len(name) - spare)]
    wide = replace(key, version=KEY_VERSION + BIG_KEY_VERSION, name=name, title=title)
    bytes_now = key_size(key.class_name, key.name, key.title, big=False)
    return wide if key_size(key.class_name, name, title, big=True) == bytes_now else None
