"""ROOT bytes in, ROOT bytes out: inspect, cut and join files by copying baskets and pages.

Everyone else decompresses, rebuilds and recompresses. Here the compressed baskets of
trees and pages of RNTuples are copied as they are, the few that straddle a cut's ends
are cut byte-wise, and only what describes them is written anew; all C++ types survive.

The core does no I/O: see `evstream.rootio.source`. What is asked of it is loaded when it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evstream.late import late

if TYPE_CHECKING:
    from evstream.rootio.beside import Rule, Rules
    from evstream.rootio.companions import file_notes, listed
    from evstream.rootio.cutting import Cut, cut, plan, plan_cut, plan_select
    from evstream.rootio.encoder import ENCODER_ID
    from evstream.rootio.errors import (
        CorruptFileError,
        EntryRangeError,
        NoSuchTreeError,
        NotARootFileError,
        SchemaMismatchError,
        UnknownBranchError,
        UnsupportedFeatureError,
    )
    from evstream.rootio.index import KnownShapes, ObjectInfo, SourceIndex, inspect, inspect_steps
    from evstream.rootio.joining import JoinResult, join
    from evstream.rootio.product import Product
    from evstream.rootio.rntuple.ntuple_index import NTupleIndex
    from evstream.rootio.selection import select_branches
    from evstream.rootio.source import (
        AsyncByteSource,
        ByteSource,
        BytesSource,
        DirectSource,
        FileSource,
        drive,
        drive_async,
    )
    from evstream.rootio.tree_index import BranchInfo, TreeIndex
    from evstream.rootio.wholeness import HEAD_BYTES, is_whole_file_of

_PLACES = {
    "evstream.rootio.beside": ("Rule", "Rules"),
    "evstream.rootio.companions": ("file_notes", "listed"),
    "evstream.rootio.cutting": ("Cut", "cut", "plan", "plan_cut", "plan_select"),
    "evstream.rootio.encoder": ("ENCODER_ID",),
    "evstream.rootio.errors": (
        "CorruptFileError",
        "EntryRangeError",
        "NoSuchTreeError",
        "NotARootFileError",
        "SchemaMismatchError",
        "UnknownBranchError",
        "UnsupportedFeatureError",
    ),
    "evstream.rootio.index": (
        "KnownShapes",
        "ObjectInfo",
        "SourceIndex",
        "inspect",
        "inspect_steps",
    ),
    "evstream.rootio.joining": ("JoinResult", "join"),
    "evstream.rootio.product": ("Product",),
    "evstream.rootio.rntuple.ntuple_index": ("NTupleIndex",),
    "evstream.rootio.selection": ("select_branches",),
    "evstream.rootio.source": (
        "AsyncByteSource",
        "ByteSource",
        "BytesSource",
        "DirectSource",
        "FileSource",
        "drive",
        "drive_async",
    ),
    "evstream.rootio.tree_index": ("BranchInfo", "TreeIndex"),
    "evstream.rootio.wholeness": ("HEAD_BYTES", "is_whole_file_of"),
}

__all__ = [
    "ENCODER_ID",
    "HEAD_BYTES",
    "AsyncByteSource",
    "BranchInfo",
    "ByteSource",
    "BytesSource",
    "CorruptFileError",
    "Cut",
    "DirectSource",
    "EntryRangeError",
    "FileSource",
    "JoinResult",
    "KnownShapes",
    "NTupleIndex",
    "NoSuchTreeError",
    "NotARootFileError",
    "ObjectInfo",
    "Product",
    "Rule",
    "Rules",
    "SchemaMismatchError",
    "SourceIndex",
    "TreeIndex",
    "UnknownBranchError",
    "UnsupportedFeatureError",
    "cut",
    "drive",
    "drive_async",
    "file_notes",
    "inspect",
    "inspect_steps",
    "is_whole_file_of",
    "join",
    "listed",
    "plan",
    "plan_cut",
    "plan_select",
    "select_branches",
]

__getattr__ = late(__name__, _PLACES)
