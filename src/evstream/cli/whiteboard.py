"""``evstream whiteboard``: notes on datasets, files and events."""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter
from msgspec.structs import replace

from evstream.cli.get import parse_entries
from evstream.cli.printing import print_json, print_table
from evstream.cli.service import DEFAULT_DOOR, Door
from evstream.client import Service
from evstream.domain.errors import NotFoundError, RequestError
from evstream.domain.whiteboard import CollectionKind, ValueType
from evstream.wire import whiteboard_messages as m

Dataset = Annotated[str, Parameter(help="A registered dataset.")]
Key = Annotated[str, Parameter(help="What is noted, as it was defined.")]
Author = Annotated[str, Parameter(help="Who you are; default your login name.")]
Expect = Annotated[
    int | None, Parameter(help="Only if the note has this version now; 0: if it never was.")
]


@Parameter(name="*")
@dataclass(frozen=True)
class On:
    """Flags that say what of a dataset a note is on."""

    lfn: Annotated[str, Parameter(help="A file; without --entries as a whole.")] = ""
    tree: Annotated[str, Parameter(help="Whose entries they are, where it has several.")] = ""
    entries: Annotated[
        tuple[str, ...],
        Parameter(consume_multiple=True, negative="", help="START:STOP, half-open; one or more."),
    ] = ()
    entry_list: Annotated[
        Path | None,
        Parameter(help="JSON instead: entries or [start, stop] by LFN, of several files."),
    ] = None

    def collection(self, dataset: str) -> m.CollectionRef:
        """Return the collection that is meant.

        Raises
        ------
        RequestError
            Entries without an end, a list that cannot be read, or flags that exclude each other.
        """
        if self.entry_list is not None:
            if self.lfn or self.entries:
                raise RequestError(
                    "--entry-list names its files and entries",
                    hint="leave out --lfn and --entries, or make two notes",
                )
            listed = _read_list(self.entry_list)
            parts = [m.PartRef(lfn, self.tree, entries) for lfn, entries in listed.items()]
            return m.CollectionRef(dataset, parts)
        if self == WHOLE:
            return m.CollectionRef(dataset)
        entries = [_interval(text) for text in self.entries]
        return m.CollectionRef(dataset, [m.PartRef(self.lfn, self.tree, entries or None)])


WHOLE = On()


def _interval(text: str) -> tuple[int, int]:
    start, stop = parse_entries(text if ":" in text else f"{text}:")
    if stop == -1 and ":" in text:
        raise RequestError(f"{text!r} has no end", hint="give START:STOP, as in 100:200")
    return start, stop if ":" in text else start + 1


def _read_list(path: Path) -> dict[str, list[tuple[int, int]]]:
    try:
        plain = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_each_once)
        listed = msgspec.convert(plain, _EntryList)
    except (OSError, ValueError, RecursionError) as error:
        raise RequestError(f"{path} is no list of entries: {error}", hint=_LIST_HINT) from error
    return {
        lfn: [(one, one + 1) if isinstance(one, int) else one for one in entries]
        for lfn, entries in listed.items()
    }


_EntryList = Annotated[
    dict[str, Annotated[list[int | tuple[int, int]], msgspec.Meta(min_length=1)]],
    msgspec.Meta(min_length=1),
]
_LIST_HINT = 'write JSON such as {"a.root": [5, [100, 200]]}, with an entry of each file at least'


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError("a name is there twice")
    return dict(pairs)


def define(
    key: Annotated[str, Parameter(help="A letter, then letters, digits and _ . : -")],
    kind: Annotated[ValueType, Parameter(help="bool, int, float, string, time or json.")],
    *,
    description: Annotated[str, Parameter(help="What notes under it say.")] = "",
    author: Author = "",
    door: Door = DEFAULT_DOOR,
) -> None:
    """Define what may be noted under a key; again with another description changes that.

    For example:

        evstream whiteboard define quality string --description 'verdict of the shift'
    """
    new = m.NewKey(kind, _me(author), description)
    view = door.ask(lambda service: service.whiteboard.define(key, new))
    if door.json:
        print_json(view)


def keys(*, door: Door = DEFAULT_DOOR) -> None:
    """List the keys, with type, owner and description.

    For example:

        evstream whiteboard keys
    """
    views = door.ask(lambda service: service.whiteboard.keys())
    if door.json:
        print_json(views)
        return
    rows = [(view.name, view.type, view.owner, view.description) for view in views]
    print_table(["key", "type", "owner", "description"], rows)


def put(
    dataset: Dataset,
    key: Key,
    value: Annotated[str, Parameter(help="In the key's type; times as ISO 8601 with a zone.")],
    *,
    on: On = WHOLE,
    expect: Expect = None,
    writers: Annotated[
        tuple[str, ...] | None,
        Parameter(consume_multiple=True, negative="", help="Who else may change it; * for all."),
    ] = None,
    author: Author = "",
    door: Door = DEFAULT_DOOR,
) -> None:
    """Note something on a dataset, a file, or entries; or change what you had noted.

    For example:

        evstream whiteboard put user:dimuons quality good --lfn a.root --entries 100:200
    """

    async def work(service: Service) -> m.NoteView:
        new = m.NewNote(
            on.collection(dataset),
            key,
            await _value(service, key, value),
            _me(author),
            expect,
            None if writers is None else list(writers),
        )
        return await service.whiteboard.put(new)

    _print([door.ask(work)], door, alone=True)


def get(
    dataset: Dataset,
    key: Key,
    *,
    on: On = WHOLE,
    version: Annotated[int | None, Parameter(help="As it was then; default now.")] = None,
    door: Door = DEFAULT_DOOR,
) -> None:
    """Print the value of a note.

    For example:

        evstream whiteboard get user:dimuons quality --lfn a.root --entries 100:200
    """
    asked = m.NoteRequest(on.collection(dataset), key, version)
    note = door.ask(lambda service: service.whiteboard.read(asked))
    if door.json:
        print_json(note)
    else:
        print(_text(note.value))


def history(dataset: Dataset, key: Key, *, on: On = WHOLE, door: Door = DEFAULT_DOOR) -> None:
    """List all versions of a note, the first first.

    For example:

        evstream whiteboard history user:dimuons quality --lfn a.root --entries 100:200
    """
    collection = on.collection(dataset)
    _print(door.ask(lambda service: service.whiteboard.history(collection, key)), door)


def rm(
    dataset: Dataset,
    key: Key,
    *,
    on: On = WHOLE,
    expect: Expect = None,
    author: Author = "",
    door: Door = DEFAULT_DOOR,
) -> None:
    """Remove a note; its versions can still be read.

    For example:

        evstream whiteboard rm user:dimuons quality --lfn a.root --entries 100:200
    """
    gone = m.Removal(on.collection(dataset), key, _me(author), expect)
    _print([door.ask(lambda service: service.whiteboard.remove(gone))], door, alone=True)


def find(
    key: Annotated[str, Parameter(help="What is noted; default anything.")] = "",
    *,
    equals: Annotated[str | None, Parameter(help="The value.")] = None,
    at_least: Annotated[str | None, Parameter(help="The value, or more.")] = None,
    below: Annotated[str | None, Parameter(help="Less than this value.")] = None,
    kind: Annotated[
        CollectionKind | None, Parameter(help="Notes on a dataset, file, interval or entries.")
    ] = None,
    owner: Annotated[str, Parameter(help="Whose notes.")] = "",
    dataset: Annotated[str, Parameter(help="Notes on just this; see --lfn and --entries.")] = "",
    on: On = WHOLE,
    limit: Annotated[int, Parameter(help="How many to show, at most.")] = 1000,
    door: Door = DEFAULT_DOOR,
) -> None:
    """Find notes by key, value, kind of collection, collection or owner.

    For example:

        evstream whiteboard find quality --equals good
    """
    if on != WHOLE and not dataset:
        raise RequestError(
            "--lfn, --tree, --entries and --entry-list are of a dataset", hint="give --dataset"
        )

    async def work(service: Service) -> list[m.NoteView]:
        async def bound(text: str | None) -> Any:
            return None if text is None else await _value(service, key, text)

        search = m.NoteSearch(
            key=key,
            equals=await bound(equals),
            at_least=await bound(at_least),
            below=await bound(below),
            kind=kind,
            collection=on.collection(dataset) if dataset else None,
            owner=owner,
        )

        async def ask(after: int, size: int) -> m.NotesAnswer:
            return await service.whiteboard.find(replace(search, after=after, limit=size))

        return await first_notes(ask, limit)

    if (equals, at_least, below) != (None, None, None) and not key:
        raise RequestError("values are compared under a key", hint="give the key as well")
    _print(door.ask(work), door)


def at(
    dataset: Dataset,
    entries: Annotated[str, Parameter(help="An entry, or START:STOP, half-open.")],
    *,
    lfn: Annotated[str, Parameter(help="Of this file; default of the only one.")] = "",
    tree: Annotated[str, Parameter(help="Whose entries they are, where it has several.")] = "",
    in_dataset: Annotated[
        bool, Parameter(negative="", help="Count entries through all files of the dataset.")
    ] = False,
    whole: Annotated[
        bool, Parameter(negative="", help="Only what is noted on all of them, not on some.")
    ] = False,
    limit: Annotated[int, Parameter(help="How many to show, at most.")] = 1000,
    door: Door = DEFAULT_DOOR,
) -> None:
    """List the notes on an event or a range: on its entries, its file and its dataset.

    For example:

        evstream whiteboard at user:dimuons 123 --lfn a.root
    """
    start, stop = _interval(entries)

    async def work(service: Service) -> list[m.NoteView]:
        async def ask(after: int, size: int) -> m.NotesAnswer:
            asked = m.EventNotes(dataset, start, stop, lfn, tree, in_dataset, whole, after, size)
            return await service.whiteboard.on_events(asked)

        return await first_notes(ask, limit)

    _print(door.ask(work), door)


async def first_notes(
    ask: Callable[[int, int], Awaitable[m.NotesAnswer]], limit: int
) -> list[m.NoteView]:
    """Return the first notes of a question; stderr says so if there are more.

    Parameters
    ----------
    ask : callable
        Takes the number of the last note that is known and how many to return at most.

    Raises
    ------
    RequestError
        The limit is below 1.
    """
    if limit < 1:
        raise RequestError(f"--limit {limit} shows nothing", hint="give 1 or more")
    notes: list[m.NoteView] = []
    after: int | None = 0
    while after is not None and len(notes) <= limit:
        answer = await ask(after, min(limit + 1 - len(notes), m.NOTES_MAX))
        notes += answer.notes
        after = answer.next
    if len(notes) > limit:
        print(f"there are more than {limit}: see --limit", file=sys.stderr)
    return notes[:limit]


def _me(author: str) -> str:
    return author or getpass.getuser()


async def _value(service: Service, key: str, text: str) -> Any:
    """Read a value as its key's type wants it: texts and times as they are, the rest as JSON."""
    types = {view.name: view.type for view in await service.whiteboard.keys()}
    if key not in types:
        raise NotFoundError(
            f"there is no key {key}", hint="define it with 'evstream whiteboard define'"
        )
    if types[key] in ("string", "time"):
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise RequestError(
            f"{key} is of type {types[key]}, and {text!r} is none", hint="give it as JSON"
        ) from error


def _print(notes: Sequence[m.NoteView], door: Door, *, alone: bool = False) -> None:
    if door.json:
        print_json(notes[0] if alone else notes)
        return
    rows = [
        (
            _collection_text(note.collection),
            note.key,
            "(removed)" if note.removed else _text(note.value),
            note.version,
            note.author,
            f"{note.changed:%Y-%m-%d %H:%M:%S}",
        )
        for note in notes
    ]
    print_table(["on", "key", "value", "version", "by", "at (UTC)"], rows)


def _collection_text(collection: m.CollectionView) -> str:
    if collection.dataset:
        return collection.dataset
    shown = [_part_text(part) for part in collection.parts[:3]]
    return ", ".join(shown) + (", ..." if len(collection.parts) > 3 else "")


def _part_text(part: m.PartView) -> str:
    name = part.lfn or part.digest[:12]
    if not part.tree:
        return name
    if len(part.entries) == 1:
        start, stop = part.entries[0]
        return f"{name} {part.tree} {start}:{stop}"
    return f"{name} {part.tree}, {part.events} entries"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
