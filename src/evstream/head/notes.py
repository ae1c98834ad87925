"""The whiteboard in people's words: files by name, events by entry or by place in a dataset."""

from __future__ import annotations

from collections.abc import Sequence

from evstream.domain.dataset import Dataset, Fingerprint, SourceFile
from evstream.domain.errors import LimitError, NotFoundError, RequestError
from evstream.domain.intervals import Interval, IntervalSet
from evstream.domain.names import DatasetName
from evstream.domain.whiteboard import (
    Change,
    Collection,
    KeyDefinition,
    Note,
    NoteQuery,
    Part,
)
from evstream.head.slices import choose_tree, find_file
from evstream.ports import Catalogue, Whiteboard
from evstream.wire import whiteboard_messages as m

FILES_SPANNED_MAX = 100
"""A range through a dataset that goes over more files is refused."""
LFNS_KEPT_MAX = 10_000


class Notes:
    """Reads and writes the whiteboard."""

    def __init__(self, whiteboard: Whiteboard, catalogue: Catalogue) -> None:
        self._whiteboard = whiteboard
        self._catalogue = catalogue
        self._lfns: dict[Fingerprint, str] = {}

    async def define(self, name: str, new: m.NewKey) -> m.KeyView:
        """Define a key.

        Raises
        ------
        RequestError, ConflictError, AccessError
            As `evstream.ports.Whiteboard.define_key`.
        """
        definition = KeyDefinition(name, new.type, new.description, new.author)
        return _key_view(await self._whiteboard.define_key(definition))

    async def keys(self) -> list[m.KeyView]:
        """Return all keys."""
        return [_key_view(key) for key in await self._whiteboard.keys()]

    async def put(self, new: m.NewNote, change_id: str) -> m.NoteView:
        """Make or change a note; what comes again under the same id is done once.

        Raises
        ------
        NotFoundError, RequestError, AccessError, ConflictError
            As `evstream.ports.Whiteboard.put`; or the collection is not there.
        """
        collection = await self._collection(new.collection)
        writers = None if new.writers is None else tuple(new.writers)
        change = Change(
            collection, new.key, new.value, new.author, new.expected_version, writers, id=change_id
        )
        return await self._view(await self._whiteboard.put(change))

    async def remove(self, gone: m.Removal, change_id: str) -> m.NoteView:
        """Remove a note; what comes again under the same id is done once.

        Raises
        ------
        NotFoundError, AccessError, ConflictError
            As `evstream.ports.Whiteboard.remove`.
        """
        collection = await self._collection(gone.collection)
        change = Change(
            collection, gone.key, None, gone.author, gone.expected_version, id=change_id
        )
        return await self._view(await self._whiteboard.remove(change))

    async def read(self, asked: m.NoteRequest) -> m.NoteView:
        """Return a note as it is, or as it was.

        Raises
        ------
        NotFoundError
        """
        collection = await self._collection(asked.collection)
        return await self._view(await self._whiteboard.note(collection, asked.key, asked.version))

    async def history(self, asked: m.HistoryRequest) -> m.NotesAnswer:
        """Return the versions of a note, the first first.

        Raises
        ------
        NotFoundError
            There is no such collection.
        """
        collection = await self._collection(asked.collection)
        versions = await self._whiteboard.history(collection, asked.key)
        found = [note for note in versions if note.version > asked.after]
        page = [await self._view(note, shorten=True) for note in found[: asked.limit]]
        return m.NotesAnswer(page, page[-1].version if len(found) > len(page) else None)

    async def find(self, search: m.NoteSearch) -> m.NotesAnswer:
        """Return the notes that fit, a page of them.

        Raises
        ------
        NotFoundError, RequestError
            There is no such key or collection, or a value is not of the key's type.
        """
        collection = None
        if search.collection is not None:
            collection = await self._collection(search.collection)
        query = NoteQuery(
            key=search.key,
            equals=search.equals,
            at_least=search.at_least,
            below=search.below,
            kind=search.kind or "",
            collection=collection,
            owner=search.owner,
            after=search.after,
            limit=search.limit,
        )
        return await self._page(await self._whiteboard.find(query), search.limit)

    async def on_events(self, asked: m.EventNotes) -> m.NotesAnswer:
        """Return the notes on some events, with those on their files and on the dataset.

        Raises
        ------
        NotFoundError, RequestError
            There is no such dataset, file, tree or entry; or the range is too wide.
        """
        dataset = await self._catalogue.dataset(DatasetName(asked.dataset))
        tree = choose_tree(dataset, asked.tree)
        stop = asked.entry_start + 1 if asked.entry_stop == -1 else asked.entry_stop
        wanted = (asked.entry_start, stop)
        if asked.in_dataset:
            pieces = _pieces(dataset, tree, wanted)
        else:
            file = find_file(dataset, asked.lfn)
            _check_entries(file, tree, [wanted])
            pieces = [(file.fingerprint, wanted)]
        if asked.whole and len(pieces) > 1:
            raise RequestError(
                "the events are in several files", hint="ask for those of each file by itself"
            )
        found: dict[int, Note] = {}
        for fingerprint, interval in pieces:
            notes = await self._whiteboard.touching(
                fingerprint,
                tree,
                interval,
                [dataset.name],
                whole=asked.whole,
                after=asked.after,
                limit=asked.limit,
            )
            found |= {note.number: note for note in notes}
        ordered = [note for _, note in sorted(found.items())]
        return await self._page(ordered[: asked.limit], asked.limit)

    async def _collection(self, ref: m.CollectionRef) -> Collection:
        dataset = await self._catalogue.dataset(DatasetName(ref.dataset))
        if ref.parts is None:
            return Collection.on_dataset(dataset.name)
        intervals = sum(len(part.entries or ()) for part in ref.parts)
        if intervals > m.INTERVALS_MAX:
            raise LimitError(
                f"a collection cannot have {intervals} intervals",
                hint=f"make several notes, of {m.INTERVALS_MAX} at most",
                intervals_max=m.INTERVALS_MAX,
            )
        return Collection.on_parts([_part(dataset, part) for part in ref.parts])

    async def _page(self, notes: Sequence[Note], limit: int) -> m.NotesAnswer:
        views = [await self._view(note, shorten=True) for note in notes]
        return m.NotesAnswer(views, notes[-1].number if len(notes) == limit else None)

    async def _view(self, note: Note, *, shorten: bool = False) -> m.NoteView:
        collection = note.collection
        intervals = sum(len(part.entries.intervals) for part in collection.parts)
        shortened = shorten and intervals > m.INTERVALS_LISTED_MAX
        parts = [
            m.PartView(
                await self._lfn(part.fingerprint),
                part.fingerprint.digest,
                part.tree,
                len(part.entries),
                [] if shortened else list(part.entries),
            )
            for part in collection.parts
        ]
        return m.NoteView(
            number=note.number,
            collection=m.CollectionView(collection.kind, collection.dataset, parts, shortened),
            key=note.key,
            value=note.value,
            version=note.version,
            owner=note.owner,
            author=note.author,
            changed=note.changed,
            writers=list(note.writers),
            removed=note.removed,
        )

    async def _lfn(self, fingerprint: Fingerprint) -> str:
        """Return what a file is called; asked of the catalogue once in a while."""
        if fingerprint not in self._lfns:
            try:
                name = str((await self._catalogue.file(fingerprint)).lfn)
            except NotFoundError:
                return ""
            if len(self._lfns) >= LFNS_KEPT_MAX:
                self._lfns = {}
            self._lfns[fingerprint] = name
        return self._lfns[fingerprint]


def _key_view(key: KeyDefinition) -> m.KeyView:
    return m.KeyView(key.name, key.type, key.description, key.owner)


def _part(dataset: Dataset, ref: m.PartRef) -> Part:
    """Return events of a file by content.

    Raises
    ------
    NotFoundError, RequestError
    """
    file = find_file(dataset, ref.lfn)
    if ref.entries is None:
        if ref.tree:
            raise RequestError(
                "a note is on a whole file or on entries, not on a tree", hint="name the entries"
            )
        return Part(file.fingerprint)
    tree = choose_tree(dataset, ref.tree)
    _check_entries(file, tree, ref.entries)
    return Part(file.fingerprint, tree, IntervalSet.of(ref.entries))


def _check_entries(file: SourceFile, tree: str, intervals: Sequence[Interval]) -> None:
    entries = file.trees[tree]
    for start, stop in intervals:
        if not 0 <= start < stop <= entries:
            raise RequestError(
                f"entries [{start}, {stop}) are not within [0, {entries})",
                hint="give 0 <= entry_start < entry_stop <= entries",
            )


def _pieces(dataset: Dataset, tree: str, wanted: Interval) -> list[tuple[Fingerprint, Interval]]:
    """Return which entries of which files a range through a dataset is."""
    pieces = []
    first = 0
    for file in dataset.files:
        entries = file.trees[tree]
        start, stop = max(wanted[0] - first, 0), min(wanted[1] - first, entries)
        if start < stop:
            pieces.append((file.fingerprint, (start, stop)))
        first += entries
    if not 0 <= wanted[0] < wanted[1] <= first:
        raise RequestError(
            f"events [{wanted[0]}, {wanted[1]}) are not within [0, {first})",
            hint="give 0 <= entry_start < entry_stop <= the dataset's entries",
        )
    if len(pieces) > FILES_SPANNED_MAX:
        raise RequestError(
            f"the events are in {len(pieces)} files", hint=f"ask for {FILES_SPANNED_MAX} at once"
        )
    return pieces
