"""The `Whiteboard` port: changes go to the owner, questions to the reader."""

# ruff: noqa: S608 - what is put into statements are names of columns, signs and question marks

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from evstream.adapters.catalogue.database import Database, from_microseconds, to_microseconds
from evstream.adapters.catalogue.owner import Owner
from evstream.adapters.catalogue.packed_intervals import RUN_MAX, pack, unpack
from evstream.adapters.catalogue.product_records import known_sources, next_number, number_sources
from evstream.adapters.catalogue.reader import Reader
from evstream.adapters.catalogue.value_lists import value_lists
from evstream.domain.dataset import Fingerprint
from evstream.domain.intervals import Interval, IntervalSet
from evstream.domain.names import DatasetName
from evstream.domain.products import reach_of
from evstream.domain.whiteboard import (
    Change,
    Collection,
    KeyDefinition,
    Note,
    NoteQuery,
    Part,
    ValueType,
    checked_value,
    next_version,
    no_note,
    redefined,
    repeated,
    sort_value,
    unknown_key,
)

_COLUMN = {
    "bool": "whole",
    "int": "whole",
    "time": "whole",
    "float": "fraction",
    "string": "words",
    "json": "words",
}
_NOTE = """
    SELECT n.note, n.collection, n.key, n.version, n.owner, n.author, n.changed, n.removed,
        n.writers, n.value FROM note n"""
_VERSIONS = """
    SELECT n.note, n.collection, n.key, v.version, n.owner, v.author, v.changed, v.removed,
        v.writers, v.value FROM note n JOIN note_version v ON v.note = n.note"""
_TOUCHING = """
    SELECT n.collection, n.entry_start, n.entry_stop, n.intervals
    FROM noted_span s CROSS JOIN noted n
    ON n.source = s.source AND n.tree = s.tree AND n.reach = s.reach
    WHERE s.source = ? AND s.tree = ? AND n.entry_start < ?
    AND n.entry_start > ? - s.reach AND n.entry_stop > ?"""


def _key(db: Database, name: str) -> KeyDefinition | None:
    row = db.execute(
        "SELECT name, type, description, owner FROM note_key WHERE name = ?", (name,)
    ).fetchone()
    return None if row is None else KeyDefinition(*row)


def _known_key(db: Database, name: str) -> KeyDefinition:
    found = _key(db, name)
    if found is None:
        raise unknown_key(name)
    return found


def _define_key(db: Database, definition: KeyDefinition) -> KeyDefinition:
    kept = redefined(_key(db, definition.name), definition)
    db.execute(
        "INSERT INTO note_key (name, type, description, owner) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET description = excluded.description",
        (kept.name, kept.type, kept.description, kept.owner),
    )
    return kept


def _keys(db: Database) -> list[KeyDefinition]:
    rows = db.execute("SELECT name, type, description, owner FROM note_key").fetchall()
    return sorted((KeyDefinition(*row) for row in rows), key=lambda key: key.name)


def _number_of(db: Database, collection: Collection) -> int | None:
    row = db.execute(
        "SELECT collection FROM collection WHERE digest = ?", (collection.digest,)
    ).fetchone()
    return None if row is None else int(row[0])


def _add_collection(db: Database, collection: Collection) -> int:
    """Return a collection's number; one that is new is written down."""
    known = _number_of(db, collection)
    if known is not None:
        return known
    number = next_number(db, "collection")
    db.insert(
        "collection",
        "collection, digest, kind, dataset",
        [(number, collection.digest, collection.kind, collection.dataset or None)],
    )
    sources = number_sources(db, [part.fingerprint for part in collection.parts])
    rows: list[tuple[Any, ...]] = []
    for part in collection.parts:
        source = sources[part.fingerprint]
        if not part.tree:
            rows.append((source, "", 0, 0, 0, number, None))
        intervals = part.entries.intervals
        for first in range(0, len(intervals), RUN_MAX):
            run = intervals[first : first + RUN_MAX]
            hull = run[0][0], run[-1][1]
            packed = pack(run) if len(run) > 1 else None
            rows.append((source, part.tree, reach_of(hull), *hull, number, packed))
    columns = "source, tree, reach, entry_start, entry_stop, collection, intervals"
    db.insert("noted", columns, rows)
    db.executemany(
        "INSERT INTO noted_span (source, tree, reach) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        sorted({row[:3] for row in rows}),
    )
    return number


def _collections(db: Database, numbers: Sequence[int]) -> dict[int, Collection]:
    """Return collections by their numbers."""
    found: dict[int, Collection] = {}
    parts: dict[int, list[Part]] = defaultdict(list)
    for marks, some in value_lists(sorted(set(numbers))):
        rows = db.execute(
            "SELECT n.collection, c.digest, c.size, c.uuid, n.tree, n.entry_start, n.entry_stop,"
            " n.intervals FROM noted n JOIN source c ON c.source = n.source"
            f" WHERE n.collection IN ({marks})",
            some,
        )
        for number, digest, size, uuid, tree, start, stop, packed in rows:
            entries = IntervalSet.of(_run(start, stop, packed))
            parts[int(number)].append(Part(Fingerprint(size, uuid, digest), tree, entries))
        names = db.execute(
            f"SELECT collection, dataset FROM collection WHERE collection IN ({marks})", some
        )
        for number, dataset in names:
            found[int(number)] = (
                Collection.on_parts(parts[int(number)])
                if dataset is None
                else Collection.on_dataset(DatasetName(dataset))
            )
    return found


def _run(start: int, stop: int, packed: bytes | None) -> list[Interval]:
    """Return the intervals of a row; none of a file as a whole."""
    if packed is not None:
        return unpack(bytes(packed))
    return [(int(start), int(stop))] if start < stop else []


def _notes(db: Database, rows: Sequence[Sequence[Any]]) -> list[Note]:
    """Return notes from their rows, in the columns of `_NOTE`."""
    collections = _collections(db, [int(row[1]) for row in rows])
    return [_note_of(row, collections[int(row[1])]) for row in rows]


def _note_of(row: Sequence[Any], collection: Collection) -> Note:
    number, _, key, version, owner, author, changed, removed, writers, value = row
    return Note(
        int(number),
        collection,
        key,
        json.loads(value),
        int(version),
        owner,
        tuple(json.loads(writers)),
        author,
        from_microseconds(changed),
        bool(removed),
    )


def _forget_change_ids(db: Database, life: timedelta, limit: int) -> int:
    return db.execute(
        "UPDATE note_version SET change_id = NULL WHERE (note, version) IN"
        " (SELECT note, version FROM note_version WHERE change_id IS NOT NULL AND changed <= ?"
        " ORDER BY changed LIMIT ?)",
        (to_microseconds(db.now() - life), limit),
    ).rowcount


def _change(db: Database, change: Change, kind: ValueType) -> Note:
    """Write a version of a note, if the change changes anything."""
    collection = _add_collection(db, change.collection)
    place = (collection, change.key)
    rows = db.execute(f"{_NOTE} WHERE n.collection = ? AND n.key = ?", place).fetchall()
    known = _notes(db, rows)[0] if rows else None
    if known is not None and change.id:
        where = "WHERE n.note = ? AND v.change_id = ?"
        rows = db.execute(f"{_VERSIONS} {where}", (known.number, change.id)).fetchall()
        if rows:
            return repeated(_notes(db, rows)[0], change)
    made = next_version(known, change, next_number(db, "note"), db.now())
    if made is known:
        return made
    columns = {"whole": None, "fraction": None, "words": None}
    if not made.removed:
        columns[_COLUMN[kind]] = sort_value(kind, made.value)  # type: ignore[assignment]
    version = (
        made.version,
        made.author,
        to_microseconds(made.changed),
        int(made.removed),
        json.dumps(made.writers),
        json.dumps(made.value),
    )
    db.execute(
        "INSERT INTO note (note, collection, key, owner, version, author, changed, removed,"
        " writers, value, whole, fraction, words) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (note) DO UPDATE SET version = excluded.version, author = excluded.author,"
        " changed = excluded.changed, removed = excluded.removed, writers = excluded.writers,"
        " value = excluded.value, whole = excluded.whole, fraction = excluded.fraction,"
        " words = excluded.words",
        (made.number, *place, made.owner, *version, *columns.values()),
    )
    db.insert(
        "note_version",
        "note, version, author, changed, removed, writers, value, change_id",
        [(made.number, *version, change.id or None)],
    )
    return made


def _put(db: Database, change: Change) -> Note:
    key = _known_key(db, change.key)
    value = checked_value(key, change.value)
    return _change(db, replace(change, value=value), key.type)


def _remove(db: Database, change: Change) -> Note:
    if not _history(db, change.collection, change.key):
        raise no_note(change.key)
    key = _known_key(db, change.key)
    return _change(db, replace(change, value=None, removed=True), key.type)


def _history(db: Database, collection: Collection, key: str) -> list[Note]:
    place = (_number_of(db, collection), key)
    rows = db.execute(
        f"{_VERSIONS} WHERE n.collection = ? AND n.key = ? ORDER BY v.version", place
    ).fetchall()
    return _notes(db, rows)


def _note(db: Database, collection: Collection, key: str, version: int | None) -> Note:
    place = (_number_of(db, collection), key)
    if version is None:
        where = "WHERE n.collection = ? AND n.key = ? AND n.removed = 0"
        rows = db.execute(f"{_NOTE} {where}", place).fetchall()
    else:
        where = "WHERE n.collection = ? AND n.key = ? AND v.version = ?"
        rows = db.execute(f"{_VERSIONS} {where}", (*place, version)).fetchall()
    if not rows:
        raise no_note(key, version)
    return _notes(db, rows)[0]


def _find(db: Database, query: NoteQuery) -> list[Note]:
    # Only what is asked for stands in the statement, so that each has the index that it needs.
    where = ["n.removed = 0", "n.note > ?"]
    values: list[Any] = [query.after]
    bounds = query.bounds()
    if query.key:
        key = _known_key(db, query.key)
        where.append("n.key = ?")
        values.append(query.key)
        column = f"n.{_COLUMN[key.type]}"
        for sign, value in bounds:
            bound = sort_value(key.type, checked_value(key, value))
            where.append(f"{column} {sign} ?")
            values.append(bound)
            if column == "n.words":
                # The index has their beginnings; what begins lower is lower.
                where.append(f"substr(n.words, 1, 100) {_WIDER[sign]} substr(?, 1, 100)")
                values.append(bound)
    if query.owner:
        where.append("n.owner = ?")
        values.append(query.owner)
    if query.collection is not None:
        where.append("n.collection = ?")
        values.append(_number_of(db, query.collection) or 0)
    if query.kind:
        where.append("n.collection IN (SELECT collection FROM collection WHERE kind = ?)")
        values.append(query.kind)
    rows = db.execute(
        f"{_NOTE} WHERE {' AND '.join(where)} ORDER BY n.note LIMIT ?", (*values, query.limit)
    ).fetchall()
    return _notes(db, rows)


_WIDER = {"=": "=", ">=": ">=", "<": "<="}


def _touching(
    db: Database,
    file: Fingerprint,
    tree: str,
    interval: Interval,
    datasets: Sequence[DatasetName],
    *,
    whole: bool,
) -> list[int]:
    """Return the collections that hold any, or all, of some entries."""
    start, stop = interval
    wanted = IntervalSet.of([interval])
    numbers: set[int] = set()
    source = known_sources(db, [file]).get(file, 0)
    held: dict[int, list[Interval]] = defaultdict(list)
    for number, *run in db.execute(_TOUCHING, (source, tree, stop, start, start)):
        held[int(number)] += _run(*run)
    for number, intervals in held.items():
        found = IntervalSet.of(intervals) & wanted
        if len(found) == len(wanted) if whole else found:
            numbers.add(number)
    files = db.execute("SELECT collection FROM noted WHERE source = ? AND tree = ''", (source,))
    numbers |= {int(number) for (number,) in files}
    for marks, some in value_lists(list(datasets)):
        rows = db.execute(f"SELECT collection FROM collection WHERE dataset IN ({marks})", some)
        numbers |= {int(number) for (number,) in rows}
    return sorted(numbers)


def _notes_on(db: Database, collections: Sequence[int], after: int, limit: int) -> list[Note]:
    rows: list[Any] = []
    for marks, some in value_lists(collections):
        rows += db.execute(
            f"{_NOTE} WHERE n.collection IN ({marks}) AND n.removed = 0 AND n.note > ?"
            " ORDER BY n.note LIMIT ?",
            (*some, after, limit),
        ).fetchall()
    return _notes(db, sorted(rows, key=lambda row: row[0])[:limit])


class SqlWhiteboard:
    """The `Whiteboard` port on the owner's database.

    Parameters
    ----------
    owner : Owner
        Runs what changes something.
    reader : Reader
        Runs what does not.
    """

    def __init__(self, owner: Owner, reader: Reader) -> None:
        self._owner = owner
        self._reader = reader

    async def define_key(self, definition: KeyDefinition) -> KeyDefinition:
        """Define a key."""
        return await self._owner.run(lambda db: _define_key(db, definition))

    async def keys(self) -> list[KeyDefinition]:
        """Return all keys, by name."""
        return await self._reader.read(_keys)

    async def put(self, change: Change) -> Note:
        """Make or change a note."""
        return await self._owner.run(lambda db: _put(db, change))

    async def remove(self, change: Change) -> Note:
        """Remove a note."""
        return await self._owner.run(lambda db: _remove(db, change))

    async def forget_change_ids(self, life: timedelta, limit: int) -> int:
        """Forget the ids of changes that were made so long ago."""
        return await self._owner.run(lambda db: _forget_change_ids(db, life, limit))

    async def note(self, collection: Collection, key: str, version: int | None = None) -> Note:
        """Return a note as it is, or as it was."""
        return await self._reader.read(lambda db: _note(db, collection, key, version))

    async def history(self, collection: Collection, key: str) -> list[Note]:
        """Return all versions of a note."""
        return await self._reader.read(lambda db: _history(db, collection, key))

    async def find(self, query: NoteQuery) -> list[Note]:
        """Return notes by number, as they are now."""
        return await self._reader.read(lambda db: _find(db, query))

    async def touching(
        self,
        file: Fingerprint,
        tree: str,
        interval: Interval,
        datasets: Sequence[DatasetName] = (),
        *,
        whole: bool = False,
        after: int = 0,
        limit: int = 1000,
    ) -> list[Note]:
        """Return the notes on any, or on all, of some entries of a file."""

        def work(db: Database) -> list[Note]:
            numbers = _touching(db, file, tree, interval, datasets, whole=whole)
            return _notes_on(db, numbers, after, limit)

        return await self._reader.read(work)
