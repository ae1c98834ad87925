"""The `AccessKeys` port: changes go to the owner, questions to the reader."""

# ruff: noqa: S608 - what is put into statements is this module's own list of columns

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from evstream.adapters.catalogue.database import Database, from_microseconds, to_microseconds
from evstream.adapters.catalogue.owner import Owner
from evstream.adapters.catalogue.reader import Reader
from evstream.domain.access import AccessKey, same_key, unknown_access_key

_COLUMNS = "id, digest, role, name, edge, created, expires, revoked, last_used"


def _key_of(row: Sequence[Any]) -> AccessKey:
    key_id, digest, role, name, edge, created = row[:6]
    expires, revoked, used = (None if t is None else from_microseconds(t) for t in row[6:])
    made = from_microseconds(created)
    return AccessKey(key_id, digest, role, name, edge, made, expires, revoked, used)


def _time(time: datetime | None) -> int | None:
    return None if time is None else to_microseconds(time)


def _find(db: Database, key_id: str) -> AccessKey | None:
    row = db.execute(f"SELECT {_COLUMNS} FROM access_key WHERE id = ?", (key_id,)).fetchone()
    return None if row is None else _key_of(row)


def _add(db: Database, key: AccessKey) -> AccessKey:
    known = _find(db, key.id)
    if same_key(known, key):
        assert known is not None
        return known
    times = map(_time, (key.created, key.expires, key.revoked, key.last_used))
    row = (key.id, key.digest, key.role, key.name, key.edge, *times)
    db.insert("access_key", _COLUMNS, [row])
    return key


def _all(db: Database) -> list[AccessKey]:
    rows = db.execute(f"SELECT {_COLUMNS} FROM access_key ORDER BY created, id")
    return [_key_of(row) for row in rows]


def _revoke(db: Database, key_id: str) -> AccessKey:
    now = to_microseconds(db.now())
    db.execute("UPDATE access_key SET revoked = ? WHERE id = ? AND revoked IS NULL", (now, key_id))
    found = _find(db, key_id)
    if found is None:
        raise unknown_access_key(key_id)
    return found


def _note_use(db: Database, key_id: str, used: datetime) -> None:
    time = to_microseconds(used)
    db.execute(
        "UPDATE access_key SET last_used = ? WHERE id = ? AND (last_used IS NULL OR last_used < ?)",
        (time, key_id, time),
    )


class SqlAccessKeys:
    """The `AccessKeys` port on the owner's database.

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

    async def add(self, key: AccessKey) -> AccessKey:
        """Keep a key."""
        return await self._owner.run(lambda db: _add(db, key))

    async def find(self, key_id: str) -> AccessKey | None:
        """Return a key."""
        return await self._reader.read(lambda db: _find(db, key_id))

    async def all(self) -> list[AccessKey]:
        """Return all keys, by their creation."""
        return await self._reader.read(_all)

    async def revoke(self, key_id: str) -> AccessKey:
        """End a key now."""
        return await self._owner.run(lambda db: _revoke(db, key_id))

    async def note_use(self, key_id: str, used: datetime) -> None:
        """Note when a key was used."""
        await self._owner.run(lambda db: _note_use(db, key_id, used))
