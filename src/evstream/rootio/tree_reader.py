"""Read a tree's record into a `TreeIndex`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from evstream.rootio.class_plan import BASIC_DTYPES, Plans, holds_plain_values
from evstream.rootio.clusters import ClusterRanges, Int64, boundaries
from evstream.rootio.errors import CorruptFileError, UnsupportedFeatureError, corrupt_if_broken
from evstream.rootio.keys import Key
from evstream.rootio.members import Members
from evstream.rootio.object_graph import IO_BITS, NULL, Array, ObjectGraph, Op
from evstream.rootio.source import Data
from evstream.rootio.tree_index import (
    BASKET_ARRAYS,
    CLUSTER_ARRAYS,
    STATUS_BITS,
    BasketSlots,
    BasketTable,
    BranchKind,
    BranchTable,
    FieldPlaces,
    LeafLayout,
    TreeIndex,
    joined_values,
)
from evstream.rootio.tree_template import Skeleton

# Of a TObject, behind its version and its unique id.
_BITS_OFFSET, _UNSIGNED = 6, 15
# They speak of entry numbers or files that a cut leaves behind; docs/explanation/rootio.md.
DROPPED_MEMBERS = {
    "fTreeIndex": "its index of major and minor values",
    "fFriends": "its friends",
}
# TBranch members that differ in a product.
BRANCH_FIELDS = (
    "fWriteBasket", "fMaxBaskets", "fEntryNumber", "fEntries", "fFirstEntry", "fTotBytes",
    "fZipBytes", IO_BITS,
)  # fmt: skip
_LEAF_TYPES = {
    "TLeafB": "int8", "TLeafS": "int16", "TLeafI": "int32", "TLeafL": "int64", "TLeafG": "long",
    "TLeafF": "float", "TLeafD": "double", "TLeafO": "bool", "TLeafC": "string",
    "TLeafF16": "Float16_t", "TLeafD32": "Double32_t",
}  # fmt: skip
_TEXT = "TLeafC"
_INT64 = np.dtype(">i8")
_COLLECTION_COUNTS = (3, 4)
# What tells kinds of branches, and of leaves, apart.
_OF_KIND = ("fCheckSum", "fClassVersion", "fID", "fType", "fStreamerType")
_UNCOUNTED = LeafLayout(NULL, 0, 0, 0)
_OF_LEAVES = ("fLen", "fLenType", "fIsUnsigned")
_TOP_OF_CLASS = 0


class _Reader:
    """Gathers the parts of one tree's index from its graph."""

    def __init__(self, graph: ObjectGraph, plans: Plans) -> None:
        self.graph = graph
        self.plans = plans
        self.nodes: list[int] = []
        self.parents: list[int] = []
        self.names: list[str] = []
        self.hidden: list[bool] = []
        self._list(0, NULL, "")
        reference = graph.nodes[0].pointers.get("fBranchRef", NULL)
        if reference != NULL:
            self._add(reference, NULL, "", hidden=True)
        self.branch_of = {node: i for i, node in enumerate(self.nodes)}
        self.leaves = [[n for n in self.items(node, "fLeaves") if n != NULL] for node in self.nodes]
        all_leaves = [leaf for row in self.leaves for leaf in row]
        self.leaf_owner = {leaf: i for i, row in enumerate(self.leaves) for leaf in row}
        self.arrays = [self._array_numbers(i) for i in range(len(self.nodes))]
        self.members = Members(graph, self.nodes)
        column = self.members.column
        self._kinds = list(zip(*(column(name).tolist() for name in _OF_KIND), strict=True))
        self._types = column("fType").tolist()
        self._streamers = column("fStreamerType", -1).tolist()
        self._positions: list[int] = column("fID", -1).tolist()
        self._versions: list[int] = column("fClassVersion").tolist()
        self._offset_lengths = column("fEntryOffsetLen").tolist()
        self._class_names = [graph.text(node, "fClassName") for node in self.nodes]
        self._titles = {leaf: graph.text(leaf, "fTitle") for leaf in all_leaves}
        leaf_members = Members(graph, all_leaves)
        columns = [leaf_members.column(name).tolist() for name in _OF_LEAVES]
        self._leaf_members = dict(zip(all_leaves, zip(*columns, strict=True), strict=True))

    def _list(self, node: int, parent: int, prefix: str) -> None:
        for child in self.items(node, "fBranches"):
            if child != NULL:
                self._add(child, parent, prefix)

    def _add(self, node: int, parent: int, prefix: str, *, hidden: bool = False) -> None:
        number = len(self.nodes)
        name = prefix + self.graph.text(node, "fName")
        self.nodes.append(node)
        self.parents.append(parent)
        self.names.append(name)
        self.hidden.append(hidden)
        if not hidden:
            self._list(node, number, name + "/")

    def items(self, node: int, member: str) -> list[int]:
        where = self.graph.nodes[node].items.get(member)
        return [] if where is None else self.graph.lists[where].nodes

    def requires(self, branch: int) -> list[int]:
        nodes = self.graph.nodes
        found = []
        for member in ("fBranchCount", "fBranchCount2"):
            target = nodes[self.nodes[branch]].pointers.get(member, NULL)
            if target != NULL:
                found.append(self.branch_of.get(target, NULL))
        for leaf in self.leaves[branch]:
            counter = nodes[leaf].pointers.get("fLeafCount", NULL)
            if counter != NULL:
                found.append(self.leaf_owner.get(counter, NULL))
        if NULL in found:
            raise CorruptFileError(
                f"branch {self.names[branch]!r} is counted by a branch that the tree does not have"
            )
        return [i for i in found if i != branch]

    def maxima(self, branch: int) -> list[tuple[int, int]]:
        spots = []
        for node in [self.nodes[branch], *self.leaves[branch]]:
            of_leaf = self.graph.nodes[node]
            # The longest text so far is in two places, and ROOT looks at either.
            for name in ("fMaximum", "fLen") if of_leaf.class_name == _TEXT else ("fMaximum",):
                spot = of_leaf.field(name)
                # ROOT sizes buffers by those of integers; the others are never filled in.
                if spot is not None and BASIC_DTYPES[spot[1]][1] in "iu":
                    spots.append(spot)
        return spots

    def layout(self, branch: int) -> LeafLayout:
        leaves = self.leaves[branch]
        counter = (
            self.graph.nodes[leaves[0]].pointers.get("fLeafCount", NULL)
            if len(leaves) == 1
            else NULL
        )
        if counter == NULL or counter not in self.leaf_owner:
            return _UNCOUNTED
        length, item_bytes, _ = self._leaf_members[leaves[0]]
        header = 1 if self.graph.nodes[leaves[0]].class_name == "TLeafElement" else 0
        counter_bytes = self._leaf_members[counter][1]
        return LeafLayout(self.leaf_owner[counter], length * item_bytes, header, counter_bytes)

    def pinned(self, branch: int) -> bool:
        """Whether entries of a branch may hold class tags, which are positions."""
        node = self.nodes[branch]
        class_name = self.graph.nodes[node].class_name
        if class_name == "TBranch":
            return any(
                self.graph.nodes[leaf].class_name not in _LEAF_TYPES for leaf in self.leaves[branch]
            )
        if class_name != "TBranchElement":
            return True
        if 0 < self._streamers[branch] < 60:
            return False
        if self._types[branch] in _COLLECTION_COUNTS:
            return False
        type_name = self._member_type(branch)
        return not (holds_plain_values(type_name) or self.plans.flat(type_name))

    def _member_type(self, branch: int) -> str:
        holder = self._class_names[branch]
        position = self._positions[branch]
        if position < 0:
            return holder
        info = self.plans.infos.get(holder, self._versions[branch])
        if info is None or position >= len(info.elements):
            return "unknown*"
        return info.elements[position].type_name

    def type(self, branch: int) -> str:
        node = self.nodes[branch]
        if self.graph.nodes[node].class_name != "TBranch":
            if self._positions[branch] >= 0:
                return self._member_type(branch).rstrip("*") or "unknown"
            return self._class_names[branch]
        names = []
        for leaf in self.leaves[branch]:
            name = _LEAF_TYPES.get(self.graph.nodes[leaf].class_name, "object")
            unsigned = self._leaf_members[leaf][2] and name.startswith("int")
            names.append("u" + name if unsigned else name)
        return ",".join(names)

    def signature(self, branch: int) -> str:
        """State what must agree for baskets of two files to be of one branch."""
        graph = self.graph
        node = self.nodes[branch]
        parts = [
            graph.nodes[node].class_name,
            self._class_names[branch],
            *map(str, self._kinds[branch]),
            "offsets" if self._offset_lengths[branch] else "fixed",
        ]
        for leaf in self.leaves[branch]:
            # The length of a text is that of the longest one so far.
            grows = graph.nodes[leaf].class_name == _TEXT
            parts += [
                graph.nodes[leaf].class_name,
                self._titles[leaf],
                *map(str, self._leaf_members[leaf][1 if grows else 0 :]),
            ]
        return "|".join(parts)

    def title(self, branch: int) -> str:
        return ":".join(self._titles[leaf] for leaf in self.leaves[branch])

    def _array_numbers(self, branch: int) -> tuple[int, int, int]:
        arrays = self.graph.nodes[self.nodes[branch]].arrays
        try:
            a, b, c = (arrays[name] for name in BASKET_ARRAYS)
        except KeyError:
            raise UnsupportedFeatureError(
                f"branch {self.names[branch]!r} has no tables of baskets",
                branch=self.names[branch],
            ) from None
        return a, b, c

    def array(self, number: int) -> Int64:
        array = self.graph.arrays[number]
        return _first_items(self.graph.data, [array], [array.count])


@corrupt_if_broken
def read_tree(path: str, key: Key, data: Data, plans: Plans) -> tuple[TreeIndex, ObjectGraph]:
    """Read a tree; return its index, and the walk that found it.

    Parameters
    ----------
    path : str
        Where the file's directories list it.
    key : Key
    data : bytes-like
        Its record, decompressed.
    plans : Plans
        Of the file's classes.

    Raises
    ------
    UnsupportedFeatureError
        Layouts of ROOT 3 and older, or classes that the file does not describe.
    CorruptFileError
        Contradictions within the record.
    """
    graph, notes = _walk(key, data, plans)
    reader = _Reader(graph, plans)
    entries = graph.number(0, "fEntries")
    if entries < 0:
        raise CorruptFileError(f"tree {path!r} claims {entries} entries")
    baskets, embedded = _baskets(reader)
    table = _table(reader)
    kinds = tuple(
        BranchKind(reader.names[i], reader.parents[i], reader.type(i), reader.title(i))
        for i in range(len(reader.nodes))
        if not reader.hidden[i]
    )
    arrays = graph.nodes[0].arrays
    cluster_arrays = [arrays.get(name, NULL) for name in CLUSTER_ARRAYS]
    numbers = {name: graph.number(0, name) for name in graph.nodes[0].fields}
    maxima = np.array([graph.value(*spot) for row in table.maxima for spot in row], np.int64)
    stated = _stated_clusters(reader, cluster_arrays, numbers.get("fAutoFlush", 0), entries)
    index = TreeIndex(
        path, key, entries, stated, kinds, tuple(notes), table, baskets, embedded,
        Skeleton.of(graph), None, dict(graph.nodes[0].fields), numbers, maxima,
    )  # fmt: skip
    return index, graph


def _walk(key: Key, data: Data, plans: Plans) -> tuple[ObjectGraph, list[str]]:
    dropped = dict(DROPPED_MEMBERS)

    def attempt() -> ObjectGraph:
        graph = ObjectGraph(
            data,
            key.key_bytes,
            plans,
            keep=lambda _class_name, member: member not in dropped,
            opaque=frozenset({"TBasket"}),
        )
        graph.walk(key.class_name)
        return graph

    try:
        graph = attempt()
    except UnsupportedFeatureError:
        # What users hung on the tree may be of classes that nobody can walk over.
        dropped["fUserInfo"] = "its user info"
        graph = attempt()
    notes = [f"{what} ({name})" for name, what in dropped.items() if _has(graph, name)]
    return graph, notes


def _has(graph: ObjectGraph, member: str) -> bool:
    return member in graph.nodes[0].dropped


def _table(reader: _Reader) -> BranchTable:
    nodes = reader.nodes
    n = len(nodes)
    column = reader.members.column
    return BranchTable(
        nodes=nodes,
        parents=reader.parents,
        hidden=reader.hidden,
        requires=[reader.requires(i) for i in range(n)],
        maxima=[reader.maxima(i) for i in range(n)],
        arrays=reader.arrays,
        layouts=[reader.layout(i) for i in range(n)],
        signatures=[reader.signature(i) for i in range(n)],
        file_names=[reader.graph.text(node, "fFileName") for node in nodes],
        entries=column("fEntries"),
        first_entries=column("fFirstEntry"),
        tot_bytes=column("fTotBytes"),
        zip_bytes=column("fZipBytes"),
        offset_lengths=column("fEntryOffsetLen"),
        compression=column("fCompress", 1),
        io_bits=column(IO_BITS),
        pinned=np.array([reader.pinned(i) for i in range(n)], np.int64),
        fields={name: reader.members.places(name) for name in BRANCH_FIELDS}
        | {STATUS_BITS: _status_bits(reader)},
    )


def _status_bits(reader: _Reader) -> FieldPlaces:
    """Find the bits of each branch's TObject, which say whether ROOT reads it."""
    named = np.array([reader.graph.nodes[node].named_at for node in reader.nodes], np.int64)
    at = np.where(named == NULL, NULL, named + _BITS_OFFSET)
    return FieldPlaces(at, np.full(len(at), _UNSIGNED))


def _baskets(reader: _Reader) -> tuple[BasketTable, dict[int, bytes]]:
    """Join the tables of all branches; find the baskets that are within the record."""
    graph = reader.graph
    columns: tuple[list[Array], list[Array], list[Array]] = ([], [], [])
    counts: list[int] = []
    inside: list[dict[int, bytes]] = []
    written = reader.members.column("fWriteBasket").tolist()
    for i, node in enumerate(reader.nodes):
        tables = [graph.arrays[number] for number in reader.arrays[i]]
        count = written[i]
        inside.append(dict(_resident(reader, node)))
        count += count in inside[i] and count < tables[1].count
        if not 0 <= count <= min(table.count for table in tables):
            raise CorruptFileError(f"branch {reader.names[i]!r} claims {count} baskets")
        for column, table in zip(columns, tables, strict=True):
            column.append(table)
        counts.append(count)
    ends = reader.members.column("fFirstEntry") + reader.members.column("fEntries")
    all_counts = np.array(counts, np.int64)
    nbytes, start, seek = (_first_items(graph.data, column, counts) for column in columns)
    baskets = BasketSlots(all_counts, all_counts).table(nbytes, start, seek, ends)
    wrong = np.flatnonzero(~baskets.in_order)
    if len(wrong):
        name = reader.names[int(baskets.branch[wrong[0]])]
        raise CorruptFileError(f"the baskets of branch {name!r} are not in order")
    embedded: dict[int, bytes] = {}
    # Only a basket with bytes has a place; one that was never flushed is in the record.
    for number in np.flatnonzero(baskets.seek == 0).tolist():
        branch = int(baskets.branch[number])
        place = number - int(baskets.first[branch])
        if place not in inside[branch]:
            raise CorruptFileError(f"basket {place} of branch {reader.names[branch]!r} is nowhere")
        embedded[number] = inside[branch][place]
    return baskets, embedded


def _first_items(data: bytes, arrays: Sequence[Array], counts: Sequence[int]) -> Int64:
    """Put the first so many items of each array behind each other."""
    view = memoryview(data)
    parts = [
        view[array.start : array.start + count * array.item_bytes]
        for array, count in zip(arrays, counts, strict=True)
    ]
    dtypes = [BASIC_DTYPES[array.type] for array in arrays]
    if len(set(dtypes)) > 1:
        return joined_values([np.frombuffer(p, d) for p, d in zip(parts, dtypes, strict=True)])
    joined = np.frombuffer(bytearray().join(parts), dtypes[0]) if parts else np.zeros(0, np.int64)
    if joined.dtype == _INT64:
        # Megabytes of fresh memory take longer to get than to fill.
        return joined.byteswap(inplace=True).view(np.int64)
    return joined.astype(np.int64)


def _resident(reader: _Reader, node: int) -> Iterator[tuple[int, bytes]]:
    graph = reader.graph
    for position, basket in enumerate(reader.items(node, "fBaskets")):
        if basket != NULL:
            tokens = graph.nodes[basket].tokens
            if len(tokens) == 3 and tokens[0] == Op.RAW:
                yield position, graph.data[tokens[1] : tokens[2]]


def _stated_clusters(
    reader: _Reader, arrays: Sequence[int], rest: int, entries: int
) -> Int64 | None:
    ends, sizes = (
        np.zeros(0, np.int64) if number == NULL else reader.array(number) for number in arrays
    )
    if len(ends) != len(sizes):
        raise CorruptFileError("the tree's cluster ranges contradict each other")
    return boundaries(ClusterRanges(ends, sizes, rest), entries)
