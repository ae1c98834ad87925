"""The whiteboard: typed, versioned notes on collections of events, each with an owner."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Literal

from evstream.domain.dataset import Fingerprint
from evstream.domain.errors import AccessError, ConflictError, NotFoundError, RequestError
from evstream.domain.intervals import Interval, IntervalSet
from evstream.domain.names import DatasetName
from evstream.domain.products import check_interval

ValueType = Literal["bool", "int", "float", "string", "time", "json"]
CollectionKind = Literal["dataset", "file", "interval", "entries"]

NO_ENTRIES = IntervalSet()
NO_DATASET = DatasetName("")
VALUE_BYTES_MAX = 64 << 10
EVERYBODY = "*"
"""Among the writers of a note: whoever wants to."""
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,99}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class KeyDefinition:
    """What notes under a key say.

    Attributes
    ----------
    owner : str
        Who defined it, and may change the description.
    """

    name: str
    type: ValueType
    description: str = ""
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """Events of one file.

    Attributes
    ----------
    tree : str
        Whose entries they are; empty for the file as a whole.
    entries : IntervalSet
        None of a file as a whole.
    """

    fingerprint: Fingerprint
    tree: str = ""
    entries: IntervalSet = NO_ENTRIES


@dataclass(frozen=True)
class Collection:
    """What a note is on: a dataset, a file, an interval of one, or a list of entries.

    Build it with `on_dataset` or `on_parts`. Files are known by content, so that a note on one
    is found through every dataset that holds it.

    Attributes
    ----------
    dataset : str
        Its name; empty for all others.
    """

    dataset: DatasetName = NO_DATASET
    parts: tuple[Part, ...] = ()

    @classmethod
    def on_dataset(cls, name: DatasetName) -> Collection:
        """Return a dataset as a collection."""
        return cls(name)

    @classmethod
    def on_parts(cls, parts: Iterable[Part]) -> Collection:
        """Return the union of parts, the same one in whatever order they come.

        Raises
        ------
        RequestError
            There are none, or a file is in it both whole and in parts.
        """
        merged: dict[tuple[Fingerprint, str], IntervalSet] = {}
        for part in parts:
            for interval in part.entries:
                check_interval(interval)
            place = (part.fingerprint, part.tree)
            merged[place] = merged.get(place, IntervalSet()) | part.entries
        if not merged:
            raise RequestError("a note is on something", hint="name a dataset, files or entries")
        if any(bool(tree) != bool(entries) for (_, tree), entries in merged.items()) or (
            len(merged) > 1 and any(not tree for _, tree in merged)
        ):
            raise RequestError(
                "a collection is one whole file, or entries of trees", hint="write two notes"
            )
        found = [Part(file, tree, entries) for (file, tree), entries in merged.items()]
        return cls(parts=tuple(sorted(found, key=_place_of)))

    @property
    def kind(self) -> CollectionKind:
        """What it is."""
        if self.dataset:
            return "dataset"
        if not self.parts[0].tree:
            return "file"
        one = len(self.parts) == 1 and len(self.parts[0].entries.intervals) == 1
        return "interval" if one else "entries"

    @cached_property
    def digest(self) -> bytes:
        """Sha256 of what it holds, 32 bytes."""
        plain: list[Any] = [self.dataset]
        plain += [[*_place_of(part), part.entries.intervals] for part in self.parts]
        return hashlib.sha256(json.dumps(plain).encode()).digest()

    def touches(self, file: Fingerprint, tree: str, interval: Interval, *, whole: bool) -> bool:
        """Whether it holds any of the entries, or all of them; a whole file holds its own."""
        wanted = IntervalSet.of([interval])
        for part in self.parts:
            if part.fingerprint == file and part.tree in ("", tree):
                if not part.tree:
                    return True
                held = part.entries & wanted
                return len(held) == len(wanted) if whole else bool(held)
        return False


def _place_of(part: Part) -> tuple[str, int, str, str]:
    file = part.fingerprint
    return file.digest, file.size, file.uuid, part.tree


@dataclass(frozen=True, slots=True)
class Note:
    """One version of what is noted under a key on a collection.

    Attributes
    ----------
    number : int
        Of the note, the same for all its versions.
    value : Any
        Plain JSON; times are ISO 8601 in UTC. None once it is removed.
    version : int
        From 1, without gaps; removing is a version too.
    writers : tuple of str
        Who may change it beside its owner.
    author : str
        Who made this version.
    """

    number: int
    collection: Collection
    key: str
    value: Any
    version: int
    owner: str
    writers: tuple[str, ...]
    author: str
    changed: datetime
    removed: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """What somebody wants a note to be.

    Attributes
    ----------
    expected_version : int or None
        The version that it is to follow, 0 for none: otherwise it is refused. None: whichever.
    writers : tuple of str or None
        None: as they were.
    removed : bool
        The note is to go; `value` is None.
    id : str
        Its author's, and of no other change of the note: what comes again under it is a repeat,
        whose first answer was lost. Empty: never a repeat.
    """

    collection: Collection
    key: str
    value: Any
    author: str
    expected_version: int | None = None
    writers: tuple[str, ...] | None = None
    removed: bool = False
    id: str = ""


@dataclass(frozen=True, slots=True)
class NoteQuery:
    """Which notes to find; what is empty or None does not matter.

    Attributes
    ----------
    equals, at_least, below : Any
        Of the value, plain JSON, in the key's type; they need a key.
    after : int
        Number of the last note that is known already.
    """

    key: str = ""
    equals: Any = None
    at_least: Any = None
    below: Any = None
    kind: str = ""
    collection: Collection | None = None
    owner: str = ""
    after: int = 0
    limit: int = 100

    def bounds(self) -> list[tuple[str, Any]]:
        """Return the comparisons that there are, with SQL's signs.

        Raises
        ------
        RequestError
            A value is compared without a key.
        """
        signs = [("=", self.equals), (">=", self.at_least), ("<", self.below)]
        found = [(sign, value) for sign, value in signs if value is not None]
        if found and not self.key:
            raise RequestError("values are compared under a key", hint="give the key as well")
        return found


def check_key(name: str) -> None:
    """Refuse what cannot be a key.

    Raises
    ------
    RequestError
    """
    if not _KEY.fullmatch(name):
        raise RequestError(
            f"{name[:100]!r} cannot be a key",
            hint="use a letter, then at most 99 letters, digits and '_', '.', ':', '-'",
        )


def checked_value(key: KeyDefinition, value: Any) -> Any:
    """Return a value as it is kept: a whole float is a float, a time is in UTC.

    Raises
    ------
    RequestError
        It is not of the key's type, or too large.
    """
    kept = _in_type(key.type, value)
    if kept is None and key.type != "json":
        raise RequestError(
            f"{key.name} is of type {key.type}, and {str(value)[:60]!r} is none",
            hint=_HINTS[key.type],
        )
    if len(json.dumps(kept)) > VALUE_BYTES_MAX:
        raise RequestError(f"the value exceeds {VALUE_BYTES_MAX} bytes", hint="note where it is")
    return kept


_HINTS = {
    "bool": "give true or false",
    "int": "give a whole number below 2^63",
    "float": "give a finite number",
    "string": "give a text",
    "time": "give ISO 8601 with a zone, such as 2026-11-22T06:00:00Z",
    "json": "",
}


def _in_type(kind: ValueType, value: Any) -> Any:
    """Return a value in its type's form; None if it is not of the type."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "bool":
        return value if isinstance(value, bool) else None
    if kind == "int":
        return value if number and isinstance(value, int) and abs(value) < 1 << 63 else None
    if kind == "float":
        return float(value) if number and math.isfinite(value) else None
    if kind == "string":
        return value if isinstance(value, str) and "\0" not in value else None
    return _time_text(value) if kind == "time" else value


def _time_text(value: Any) -> str | None:
    try:
        time = datetime.fromisoformat(value)
        return None if time.tzinfo is None else time.astimezone(UTC).isoformat()
    except (TypeError, ValueError, OverflowError):
        return None


def sort_value(kind: ValueType, value: Any) -> int | float | str:
    """Return what a checked value is compared by: microseconds of a time, one text of JSON."""
    if kind == "json":
        return json.dumps(value, sort_keys=True, separators=(",", ":"))
    if kind == "time":
        return (datetime.fromisoformat(value) - _EPOCH) // timedelta(microseconds=1)
    return int(value) if kind == "bool" else value


def next_version(known: Note | None, change: Change, number: int, now: datetime) -> Note:
    """Return what a change makes of a note; the note itself where it changes nothing.

    Parameters
    ----------
    number : int
        For a note that is not there yet.

    Raises
    ------
    AccessError
        The author is neither its owner nor among its writers.
    ConflictError
        Another version is there than was expected.
    """
    if known is None:
        _expect(change, 0)
        return Note(
            number, change.collection, change.key, change.value, 1, change.author,
            change.writers or (), change.author, now,
        )  # fmt: skip
    if change.author != known.owner and (
        change.writers not in (None, known.writers)
        or not {change.author, EVERYBODY} & set(known.writers)
    ):
        raise AccessError(
            f"the note is {known.owner}'s, and {change.author} may not change it",
            hint="ask its owner to make you one of its writers",
            owner=known.owner,
        )
    writers = known.writers if change.writers is None else change.writers
    _expect(change, known.version)
    if _says(known) == _says(change) and known.writers == writers:
        return known
    return replace(
        known, value=change.value, version=known.version + 1, writers=writers,
        author=change.author, changed=now, removed=change.removed,
    )  # fmt: skip


def repeated(made: Note, change: Change) -> Note:
    """Return the version that a change has made already.

    Raises
    ------
    ConflictError
        It was another change.
    """
    same = (made.author, _says(made)) == (change.author, _says(change))
    if not same or change.writers not in (None, made.writers):
        raise ConflictError(
            f"this Idempotency-Key has made version {made.version}, which is another one",
            hint="send each change with a key of its own",
            version=made.version,
        )
    return made


def _says(one: Note | Change) -> tuple[str, bool]:
    """Return what is noted as text, since Python holds True, 1 and 1.0 for equal."""
    return str(sort_value("json", one.value)), one.removed


def _expect(change: Change, version: int) -> None:
    if change.expected_version not in (None, version):
        raise ConflictError(
            f"the note has version {version}, not {change.expected_version}",
            hint="read it again, and decide anew",
            version=version,
        )


def redefined(known: KeyDefinition | None, wanted: KeyDefinition) -> KeyDefinition:
    """Return what a key becomes that somebody defines.

    Raises
    ------
    ConflictError, AccessError
        It is defined otherwise, by type or by somebody else.
    """
    check_key(wanted.name)
    if known is None:
        return wanted
    if known.type != wanted.type:
        raise ConflictError(
            f"{known.name} is of type {known.type}", hint="choose another key", key=known.name
        )
    if known.description != wanted.description and known.owner != wanted.owner:
        raise AccessError(
            f"{known.name} was defined by {known.owner}", hint="ask them to describe it otherwise"
        )
    return replace(known, description=wanted.description)


def unknown_key(name: str) -> NotFoundError:
    """Return the error for a key that is not defined."""
    return NotFoundError(
        f"there is no key {name[:100]}", hint="define it with 'evstream whiteboard define'"
    )


def no_note(key: str, version: int | None = None) -> NotFoundError:
    """Return the error for a note that is not there."""
    which = "" if version is None else f" of version {version}"
    return NotFoundError(
        f"there is no note{which} under {key} on it", hint="see 'evstream whiteboard history'"
    )
