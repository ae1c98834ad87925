"""The `Whiteboard` port on lists: what it means, in the plainest form."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from evstream.domain.dataset import Fingerprint
from evstream.domain.intervals import Interval
from evstream.domain.names import DatasetName
from evstream.domain.whiteboard import (
    Change,
    Collection,
    KeyDefinition,
    Note,
    NoteQuery,
    checked_value,
    next_version,
    no_note,
    redefined,
    repeated,
    sort_value,
    unknown_key,
)
from evstream.ports.clock import Clock

_SIGNS = {"=": operator.eq, ">=": operator.ge, "<": operator.lt}


class MemoryWhiteboard:
    """Keeps the versions of each note in a list."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._keys: dict[str, KeyDefinition] = {}
        self._notes: dict[tuple[bytes, str], list[Note]] = {}
        self._made: dict[tuple[tuple[bytes, str], str], Note] = {}

    async def define_key(self, definition: KeyDefinition) -> KeyDefinition:
        """Define a key."""
        known = self._keys.get(definition.name)
        self._keys[definition.name] = redefined(known, definition)
        return self._keys[definition.name]

    async def keys(self) -> list[KeyDefinition]:
        """Return all keys, by name."""
        return [definition for _, definition in sorted(self._keys.items())]

    def _key(self, name: str) -> KeyDefinition:
        if name not in self._keys:
            raise unknown_key(name)
        return self._keys[name]

    async def put(self, change: Change) -> Note:
        """Make or change a note."""
        value = checked_value(self._key(change.key), change.value)
        return self._change(replace(change, value=value))

    async def remove(self, change: Change) -> Note:
        """Remove a note."""
        if (change.collection.digest, change.key) not in self._notes:
            raise no_note(change.key)
        return self._change(replace(change, value=None, removed=True))

    def _change(self, change: Change) -> Note:
        place = (change.collection.digest, change.key)
        if (place, change.id) in self._made:
            return repeated(self._made[place, change.id], change)
        versions = self._notes.get(place, [])
        known = versions[-1] if versions else None
        made = next_version(known, change, len(self._notes) + 1, self._clock.now())
        if made is not known:
            self._notes[place] = [*versions, made]
            if change.id:
                self._made[place, change.id] = made
        return made

    async def forget_change_ids(self, life: timedelta, limit: int) -> int:
        """Forget the ids of changes that were made so long ago."""
        before = self._clock.now() - life
        old = [each for each, made in self._made.items() if made.changed <= before][:limit]
        for each in old:
            del self._made[each]
        return len(old)

    async def note(self, collection: Collection, key: str, version: int | None = None) -> Note:
        """Return a note as it is, or as it was."""
        versions = self._notes.get((collection.digest, key), [])
        for note in reversed(versions):
            if version in (None, note.version):
                if note.removed and version is None:
                    break
                return note
        raise no_note(key, version)

    async def history(self, collection: Collection, key: str) -> list[Note]:
        """Return all versions of a note."""
        return self._notes.get((collection.digest, key), [])

    def _current(self) -> list[Note]:
        notes = [versions[-1] for versions in self._notes.values() if not versions[-1].removed]
        return sorted(notes, key=lambda note: note.number)

    async def find(self, query: NoteQuery) -> list[Note]:
        """Return notes by number, as they are now."""
        kind = self._key(query.key) if query.key else None
        bounds = [
            (_SIGNS[sign], sort_value(kind.type, checked_value(kind, value)))
            for sign, value in query.bounds()
            if kind is not None
        ]

        def fits(note: Note) -> bool:
            if kind is not None and note.key != kind.name:
                return False
            value: Any = sort_value(kind.type, note.value) if kind else None
            return (
                all(sign(value, bound) for sign, bound in bounds)
                and query.kind in ("", note.collection.kind)
                and query.owner in ("", note.owner)
                and query.collection in (None, note.collection)
                and note.number > query.after
            )

        return [note for note in self._current() if fits(note)][: query.limit]

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
        return [
            note
            for note in self._current()
            if note.number > after
            and (
                note.collection.touches(file, tree, interval, whole=whole)
                or (note.collection.dataset and note.collection.dataset in datasets)
            )
        ][:limit]
