"""References of objects (TRef and its kin) say which of a file's process ids they count from.

In a joined file a file's process ids may have other numbers. Then the keys of its objects
say how far those have moved; only keys with eight-byte positions can.

Source: TRef::Streamer, TObject::Streamer and TKey::ReadObj of ROOT 6.
"""

from __future__ import annotations

import re

from evstream.rootio.added import can_be_added
from evstream.rootio.baskets import NEW_CLASS
from evstream.rootio.compression import decompress
from evstream.rootio.errors import CorruptFileError, UnsupportedFeatureError
from evstream.rootio.index import DESCRIPTIONS, Record
from evstream.rootio.keys import PIDS_MAX, Key, widened, widened_within, with_pids
from evstream.rootio.source import Data

# A TObject that somebody refers to: version, a unique id of 24 bits, bits with kIsReferenced.
_REFERENCED = re.compile(
    rb"\x00\x01\x00(?!\x00{3}).{3}.{3}[%s]"
    % b"".join(b"\\x%02x" % byte for byte in range(256) if byte & 0x10),
    re.DOTALL,
)
# Texts, what lists are made of, and what is fitted to histograms or drawn with them.
_WITHOUT_REFERENCES = re.compile(
    r"T(Object|Obj(String|Array)|(Hash|Sorted)?List|Axis|F[123]|Formula|F1Parameters"
    r"|Pave(Stats|Text)?|PaletteAxis|Latex|Text|Line)"
)


def may_refer(class_name: str, data: Data) -> bool:
    """Whether an object may refer to others, or be referred to; when in doubt it may.

    Parameters
    ----------
    data : bytes-like
        The object as streamed, decompressed.
    """
    classes = [found[4:-1].decode() for found in NEW_CLASS.findall(data)]
    if not all(_holds_no_references(name) for name in (class_name, *classes)):
        return True
    return _REFERENCED.search(data) is not None


def _holds_no_references(class_name: str) -> bool:
    return (
        class_name in DESCRIPTIONS
        or can_be_added(class_name)
        or _WITHOUT_REFERENCES.fullmatch(class_name) is not None
    )


def led_to(record: Record, shift: int, path: str) -> Record:
    """Let an object's references count from process ids that are ``shift`` further on.

    Raises
    ------
    UnsupportedFeatureError
        Its key has no room to say so; the error names the path.
    """
    if not shift:
        return record
    key = record.key
    data = decompress(record.payload, key.object_bytes)
    if not may_refer(key.class_name, data):
        return record
    if not key.big and NEW_CLASS.search(data) is None:
        # Nothing in it says where it lies, so that its key may be longer.
        key = widened(key)
    elif not key.big:
        key = _within(key, path)
    if key.pids + shift > PIDS_MAX:
        raise CorruptFileError(f"{path!r} has references to process ids that there are not")
    return Record(with_pids(key, key.pids + shift), record.payload)


def _within(key: Key, path: str) -> Key:
    wide = widened_within(key, cut_name=False)
    if wide is None:
        raise UnsupportedFeatureError(
            f"references of {path!r} cannot be led to another file's process ids:"
            " its title is too short to make room in its key",
            hint=f"leave it out with the rule {path}=none",
            path=path,
        )
    return wide
