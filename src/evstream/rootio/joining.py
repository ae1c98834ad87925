"""Join: many files into one, in the given order, by copying baskets and pages.

Trees and RNTuples of one path are concatenated, histograms added, process ids united; all
else goes by `evstream.rootio.beside`. docs/explanation/rootio.md has the rules.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from evstream.domain.errors import RequestError, bad_data_named
from evstream.rootio.assembly import FileAssembly
from evstream.rootio.beside import NOT_FOR_ATHENA, Rule, Rules, is_pool
from evstream.rootio.branch_status import with_common_status
from evstream.rootio.clashes import DIRECTORY, TREE, Named, refuse_clashes
from evstream.rootio.companions import NO_ATHENA, listed, mark
from evstream.rootio.compression import decompress
from evstream.rootio.errors import SchemaMismatchError, UnsupportedFeatureError
from evstream.rootio.index import AnyTree, Folder, KnownShapes, Record, SourceIndex, inspect
from evstream.rootio.joined_objects import JoinedObjects, distinct_trees
from evstream.rootio.keys import PIDS_MAX
from evstream.rootio.primitives import read_string
from evstream.rootio.product import Product
from evstream.rootio.rntuple.ntuple_index import NTupleIndex
from evstream.rootio.rntuple.ntuple_join import joined_pages
from evstream.rootio.rntuple.ntuple_pages import NTuplePages
from evstream.rootio.rntuple.ntuple_writing import add_entries
from evstream.rootio.selection import kept_branches
from evstream.rootio.source import ByteSource, FewOpen, drive, fresh
from evstream.rootio.splice import Piece, Splice
from evstream.rootio.spool import spooled
from evstream.rootio.streamer_info import StreamerInfos
from evstream.rootio.tree_index import TreeIndex

CHUNK_BYTES = 4 << 20
DEFAULTS = Rules()


@dataclass(frozen=True, slots=True)
class JoinResult:
    """What came out of a join.

    Attributes
    ----------
    entries : mapping of tree path to number of entries
    objects : mapping of outcome to paths
        What became of objects, and of trees that were not simply concatenated: "added",
        "first" (the first file's, or the only one), "once" (equal in all files), "all"
        (those that differ, as cycles of one name or behind each other), "united" and
        "left" (behind, by rule).
    size : int
        Length of the file in bytes.
    notes : tuple of str
        What the file is no good for, in words.
    """

    entries: Mapping[str, int]
    objects: Mapping[str, tuple[str, ...]]
    size: int
    notes: tuple[str, ...] = ()


def join(
    inputs: Sequence[str | os.PathLike[str] | ByteSource],
    out_path: str | os.PathLike[str],
    *,
    beside: Rules = DEFAULTS,
    identity: bytes = b"",
    indices: Sequence[SourceIndex] | None = None,
    names: Sequence[str] | None = None,
) -> JoinResult:
    """Join files into one; nothing is seen of it before it is whole.

    Parameters
    ----------
    inputs : sequence of paths or sources, at least one
    beside : Rules
        What becomes of metadata trees and objects.
    identity : bytes
        What the file's UUID derives from; by default the inputs' fingerprints and the
        rules that were given.
    indices : sequence of SourceIndex, optional
        Of the inputs, where they are known already.
    names : sequence of str, optional
        What errors and notes call the inputs; by default their paths, or numbers.

    Raises
    ------
    SchemaMismatchError
        Trees with other branches, histograms with other bins; the error names them.
    UnsupportedFeatureError
        Something that cannot be joined correctly yet.
    RequestError
        More or fewer indices or names than inputs.
    """
    _refuse_other_counts(inputs, names=names, indices=indices)
    with FewOpen() as files:
        sources: list[ByteSource] = [
            files.source(one) if isinstance(one, (str, os.PathLike)) else one for one in inputs
        ]
        named = list(names) if names is not None else _paths(inputs)
        known = _inspected(sources, named) if indices is None else list(indices)
        product, result = assemble(sources, known, identity, beside, named)
        buffer = fresh(CHUNK_BYTES)
        with spooled(Path(out_path), product.size) as out:
            for offset in range(0, product.size, CHUNK_BYTES):
                out.write(product.read_into(offset, buffer, sources))
    return result


def assemble(
    sources: Sequence[ByteSource],
    indices: Sequence[SourceIndex],
    identity: bytes,
    beside: Rules = DEFAULTS,
    names: Sequence[str] | None = None,
) -> tuple[Product, JoinResult]:
    """Lay out the joined file; its baskets stay where they are until they are read."""
    if not indices:
        raise SchemaMismatchError("there is nothing to join", hint="give at least one file")
    if names is None:
        names = [f"file {number}" for number in range(len(indices))]
    unreadable = _without_unreadable(indices, names, beside)
    if not identity:
        words = [index.fingerprint for index in indices]
        identity = "\0".join([*words, *beside.canonical().splitlines()]).encode()
    first = indices[0]
    pids, shifts = _united_pids(indices)
    outcomes: dict[str, list[str]] = {"left": unreadable}
    notes: list[str] = []
    splices: dict[str, Splice | NTuplePages] = {}
    things = _directories(indices)
    for path in dict.fromkeys(p for index in indices for p in index.trees):
        chosen = _chosen(path, sources, indices, names, beside, outcomes, notes)
        if chosen:
            if beside.of_tree(chosen[0][1]) == Rule.EVENTS:
                notes += _lacking(path, indices, names)
            things += _named(chosen)
            splices[path] = _joined(chosen, shifts, names, beside)
            notes += _left_on(path, chosen, names) + _weighed(path, chosen, names)
    infos = _infos(indices)
    objects = JoinedObjects(sources, indices, infos, shifts, names, beside)
    refuse_clashes([*things, *objects.things()], names)
    date = max((t.key.date for i in indices for t in i.trees.values()), default=0)
    date = max([date, *(o.key.date for i in indices for o in i.objects)])
    assembly = FileAssembly(first, identity, date)
    assembly.begin(_united_folders(indices))
    _add_streamers(assembly, indices, infos, names)
    for name, record in pids.items():
        assembly.add_object(
            "", "TProcessID", name, record.key.title, record.payload, record.key.object_bytes,
            record.key.date,
        )  # fmt: skip
    objects.add_to(assembly, outcomes)
    outcomes["united"] = [*pids]
    notes += _marked(assembly, indices)
    for splice in splices.values():
        for number in splice.sources:
            source = sources[number]
            drive(splice.prepare_steps(number, source.size), source)
        add_entries(assembly, splice, [index.size for index in indices])
    product = assembly.finish([index.size for index in indices])
    return product, JoinResult(
        MappingProxyType({path: splice.entries for path, splice in splices.items()}),
        MappingProxyType({what: tuple(paths) for what, paths in outcomes.items() if paths}),
        product.size,
        tuple(notes),
    )


def _marked(assembly: FileAssembly, indices: Sequence[SourceIndex]) -> tuple[str, ...]:
    """Say in the file if it is not for Athena, unless an object from an input does."""
    if not is_pool(indices):
        return ()
    if not any(info.path == NOT_FOR_ATHENA for index in indices for info in index.objects):
        mark(assembly)
    return (NO_ATHENA,)


def _paths(inputs: Sequence[str | os.PathLike[str] | ByteSource]) -> list[str]:
    return [
        os.fspath(one) if isinstance(one, (str, os.PathLike)) else f"file {number}"
        for number, one in enumerate(inputs)
    ]


def _inspected(sources: Sequence[ByteSource], names: Sequence[str]) -> list[SourceIndex]:
    shapes = KnownShapes()
    indices = []
    for source, name in zip(sources, names, strict=True):
        with bad_data_named(name):
            indices.append(inspect(source, shapes))
    return indices


def _refuse_other_counts(inputs: Sequence[object], **beside: Sequence[object] | None) -> None:
    for what, given in beside.items():
        if given is not None and len(given) != len(inputs):
            raise RequestError(
                f"{len(given)} {what} were given for {len(inputs)} inputs",
                hint=f"give one of the {what} for each input, or leave them out",
            )


def _without_unreadable(
    indices: Sequence[SourceIndex], names: Sequence[str], beside: Rules
) -> list[str]:
    """Return the unreadable trees that rules leave out; refuse any other."""
    left: dict[str, None] = {}
    for name, index in zip(names, indices, strict=True):
        for path, why in index.unreadable.items():
            if not beside.leaves(path):
                raise UnsupportedFeatureError(
                    f"tree {path!r} of {name} cannot be joined: {why}",
                    hint=f"leave it out with the rule {path}={Rule.NONE}",
                    tree=path,
                )
            left[path] = None
    return [path for path in left if not any(path in index.trees for index in indices)]


# --- trees ----------------------------------------------------------------------


def _chosen(
    path: str,
    sources: Sequence[ByteSource],
    indices: Sequence[SourceIndex],
    names: Sequence[str],
    beside: Rules,
    outcomes: dict[str, list[str]],
    notes: list[str],
) -> list[tuple[int, AnyTree]]:
    """Decide which files' trees of a path are kept, with the numbers of the files."""
    holders = [(n, i.trees[path]) for n, i in enumerate(indices) if path in i.trees]
    rule = beside.of_tree(holders[0][1])
    if rule == Rule.NONE:
        outcomes.setdefault("left", []).append(path)
        return []
    notes += [
        f"{one} counts for nothing: a join keeps all branches of {path}"
        for one in beside.void(holders[0][1])
    ]
    if rule == Rule.FIRST:
        outcomes.setdefault("first", []).append(path)
        return holders[:1]
    if rule == Rule.ALL and len(holders) > 1:
        holders, left = distinct_trees(holders, sources, beside)
        if left:
            notes.append(
                f"{path} of {listed([names[n] for n in left])} differs and has fewer"
                " branches than that of others: it is left out"
            )
        outcomes.setdefault("once" if len(holders) == 1 else "all", []).append(path)
    return holders


def _named(holders: Sequence[tuple[int, AnyTree]]) -> list[Named]:
    return [Named(t.path, t.folder, TREE, t.key.class_name, n) for n, t in holders]


def _directories(indices: Sequence[SourceIndex]) -> list[Named]:
    return [
        Named(f.path, f.path.rpartition("/")[0], DIRECTORY, f.class_name, number)
        for number, index in enumerate(indices)
        for f in index.folders
    ]


def _lacking(path: str, indices: Sequence[SourceIndex], names: Sequence[str]) -> list[str]:
    """Say which files have no tree of a path that others have."""
    without = [n for n, index in zip(names, indices, strict=True) if path not in index.trees]
    if not without:
        return []
    return [f"{path} is not in {listed(without)}: its entries are those of the other files"]


def _left_on(path: str, holders: Sequence[tuple[int, AnyTree]], names: Sequence[str]) -> list[str]:
    """Say what hangs on trees and speaks of their entries by number, and so stays behind."""
    held: dict[str, list[str]] = {}
    for number, tree in holders:
        for what in tree.notes:
            held.setdefault(what, []).append(names[number])
    return [f"left behind of {path} in {listed(holding)}: {what}" for what, holding in held.items()]


def _weighed(path: str, holders: Sequence[tuple[int, AnyTree]], names: Sequence[str]) -> list[str]:
    """Say which files' entries weigh something else than the first one's, as hadd does not."""
    weights = [(names[n], tree.weight) for n, tree in holders if isinstance(tree, TreeIndex)]
    others = [f"{name} ({weight:g})" for name, weight in weights if weight != weights[0][1]]
    if not others:
        return []
    name, weight = weights[0]
    return [
        f"the weight of {path} is {weight:g} in {name}, and another in {listed(others)}: all its"
        f" entries have {weight:g} now"
    ]


def _joined(
    holders: Sequence[tuple[int, AnyTree]],
    shifts: Sequence[int],
    names: Sequence[str],
    beside: Rules,
) -> Splice | NTuplePages:
    trees = [(n, tree) for n, tree in holders if isinstance(tree, TreeIndex)]
    ntuples = [(n, tree) for n, tree in holders if isinstance(tree, NTupleIndex)]
    if trees and ntuples:
        path = holders[0][1].path
        raise SchemaMismatchError(
            f"{path!r} is a TTree in {names[trees[0][0]]} and an RNTuple in {names[ntuples[0][0]]}",
            hint="join files of one kind only",
            names=[path],
        )
    if ntuples:
        return joined_pages(ntuples, names, beside.joined_branches)
    return _splice(trees, shifts, names, beside)


def _splice(
    holders: Sequence[tuple[int, TreeIndex]],
    shifts: Sequence[int],
    names: Sequence[str],
    beside: Rules,
) -> Splice:
    # An empty tree adds nothing, and often has no leaf lengths to compare either.
    filled = [(n, tree) for n, tree in holders if tree.entries] or list(holders[:1])
    model = filled[0][1]
    kept = _visible(model, beside)
    pieces = [
        Piece(n, tree, _matching(model, kept, tree, beside, names[n]), 0, tree.entries, shifts[n])
        for n, tree in filled
    ]
    return Splice(with_common_status(pieces))


def _visible(tree: TreeIndex, beside: Rules) -> tuple[int, ...]:
    # TBranchRef's tables speak of one file's branches; references work without it.
    kept = kept_branches(tree, beside.joined_branches(tree))
    return tuple(i for i in kept if not tree.table.hidden[i])


def _matching(
    model: TreeIndex, kept: tuple[int, ...], tree: TreeIndex, beside: Rules, file: str
) -> tuple[int, ...]:
    """Find the model's branches in another tree; refuse any difference by name."""
    if tree.table.kind == model.table.kind:
        return kept
    own = _visible(tree, beside)
    names = [tree.kinds[i].name for i in own]
    expected = [model.kinds[i].name for i in kept]
    if names == expected:
        matched = own
    else:
        place = dict(zip(names, own, strict=True))
        different = sorted(set(names) ^ set(expected))
        if different or len(place) != len(names):
            raise SchemaMismatchError(
                f"tree {tree.path!r} of {file} has other branches: "
                f"{', '.join(different[:10]) or 'names that occur twice'}",
                hint="join files of one kind only, or select the branches they share",
                names=different,
            )
        matched = tuple(place[name] for name in expected)
    theirs, ours = tree.table.signatures, model.table.signatures
    changed = [
        model.kinds[i].name for i, j in zip(kept, matched, strict=True) if ours[i] != theirs[j]
    ]
    if changed:
        raise SchemaMismatchError(
            f"branches of tree {tree.path!r} have another type in {file}: "
            f"{', '.join(changed[:10])}",
            hint="join files of one kind only",
            names=changed,
        )
    return matched


# --- process ids ----------------------------------------------------------------


def _pid_uuid(record: Record) -> str:
    payload = decompress(record.payload, record.key.object_bytes)
    # TProcessID and TNamed headers, TObject, then name and title.
    _, at = read_string(payload, 6 + 6 + 10)
    return read_string(payload, at)[0]


def _united_pids(indices: Sequence[SourceIndex]) -> tuple[dict[str, Record], list[int]]:
    """Count through the process ids of all files; return how far each file's must shift."""
    uuids: list[str] = []
    places: dict[str, list[int]] = {}
    records: dict[str, Record] = {}
    shifts = []
    for index in indices:
        own = sorted(index.carried, key=lambda r: _pid_number(r.key.name))
        wanted = [_pid_uuid(r) for r in own]
        shift = _find_run(uuids, places, wanted)
        if shift is None:
            shift = len(uuids)
            for record, uuid in zip(own, wanted, strict=True):
                records[f"ProcessID{len(uuids)}"] = record
                places.setdefault(uuid, []).append(len(uuids))
                uuids.append(uuid)
        shifts.append(shift)
    if len(uuids) > PIDS_MAX:
        raise UnsupportedFeatureError(
            f"the files were written by {len(uuids)} processes; references can tell {PIDS_MAX}",
            hint="join fewer files at once",
        )
    return records, shifts


def _pid_number(name: str) -> int:
    digits = name.removeprefix("ProcessID")
    return int(digits) if digits.isdecimal() else 0


def _find_run(
    uuids: Sequence[str], places: Mapping[str, Sequence[int]], wanted: Sequence[str]
) -> int | None:
    """Find a stretch that equals what a file expects at its own numbers.

    Parameters
    ----------
    places : mapping of a uuid to where it is
    """
    if not wanted:
        return 0
    for start in places.get(wanted[0], ()):
        if uuids[start : start + len(wanted)] == wanted:
            return start
    return None


# --- everything else --------------------------------------------------------------


def _united_folders(indices: Sequence[SourceIndex]) -> list[Folder]:
    folders: dict[str, Folder] = {}
    for index in indices:
        for folder in index.folders:
            folders.setdefault(folder.path, folder)
    return sorted(folders.values(), key=lambda f: f.path.count("/"))


def _infos(indices: Sequence[SourceIndex]) -> list[StreamerInfos]:
    """Read each file's streamers; files of one program have the same, read once."""
    known: dict[bytes, StreamerInfos] = {}
    found = []
    for index in indices:
        record = index.streamers
        if record is None:
            found.append(StreamerInfos(b"", 0))
            continue
        if record.payload not in known:
            content = decompress(record.payload, record.key.object_bytes)
            known[record.payload] = StreamerInfos(content, record.key.key_bytes)
        found.append(known[record.payload])
    return found


def _add_streamers(
    assembly: FileAssembly,
    indices: Sequence[SourceIndex],
    infos: Sequence[StreamerInfos],
    names: Sequence[str],
) -> None:
    records = [index.streamers for index in indices]
    described = [(r, i, n) for r, i, n in zip(records, infos, names, strict=True) if r is not None]
    if not described:
        return
    first = described[0][0]
    distinct: dict[bytes, tuple[StreamerInfos, str]] = {}
    for record, own, name in described:
        distinct.setdefault(record.payload, (own, name))
    if len(distinct) == 1:
        assembly.copy_record(first, None)
    else:
        assembly.unite_streamers(first, *zip(*distinct.values(), strict=True))
