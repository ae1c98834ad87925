"""ROOT bytes in, ROOT bytes out: inspect, cut and join files by copying baskets and pages.

Everyone else decompresses, rebuilds and recompresses. Here the compressed baskets of
trees and pages of RNTuples are copied as they are, the few that straddle a cut's ends
are cut byte-wise, and only what describes them is written anew; all C++ types survive.

The core does no I/O: see `evstream.rootio.source`.
"""

from __future__ import annotations

from evstream.rootio.assembly import HEAD_BYTES, is_whole_file_of
from evstream.rootio.beside import Rule, Rules
from evstream.rootio.companions import file_notes, listed
from evstream.rootio.cut import Cut, cut, plan, plan_cut, plan_select
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
from evstream.rootio.join import JoinResult, join
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
