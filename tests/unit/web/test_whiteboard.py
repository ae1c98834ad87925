"""The whiteboard over HTTP, through the client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from evstream.assembly import Application
from evstream.client import Service
from evstream.domain.errors import (
    AccessError,
    ConflictError,
    LimitError,
    NotFoundError,
    RequestError,
)
from evstream.testing.simulator import sample_files
from evstream.wire import messages as m
from evstream.wire import whiteboard_messages as wm
from tests.unit.web.test_api import with_application

FILES = sample_files(files=3, entries=100)
DATASET = wm.CollectionRef("user:x")


def with_board(work: Callable[[Service, list[str]], Awaitable[None]]) -> None:
    """Run some work against a service in memory, with the LFNs of three files of 100 entries."""

    async def ask(application: Application) -> None:
        service = application.client()
        dataset = await service.add_dataset(
            m.NewDataset([m.NewFile(pfn) for pfn in FILES], "user:x")
        )
        await service.whiteboard.define("count", wm.NewKey("int", "anna", "tracks"))
        await work(service, [file.lfn for file in dataset.files])
        await service.close()

    with_application(ask, FILES)


def on(lfn: str, *entries: tuple[int, int]) -> wm.CollectionRef:
    """Return entries of a file, or all of it."""
    return wm.CollectionRef("user:x", [wm.PartRef(lfn, "", list(entries) or None)])


def note(collection: wm.CollectionRef, value: object, author: str = "anna") -> wm.NewNote:
    """Return a note of a number."""
    return wm.NewNote(collection, "count", value, author)


def test_notes_come_back_with_their_names() -> None:
    async def work(service: Service, lfns: list[str]) -> None:
        board = service.whiteboard
        assert await board.keys() == [wm.KeyView("count", "int", "tracks", "anna")]
        put = await board.put(note(on(lfns[1], (5, 9), (20, 21)), 7))
        (part,) = put.collection.parts
        assert (part.lfn, part.tree, part.events) == (lfns[1], "Events", 5)
        assert part.entries == [(5, 9), (20, 21)]
        assert (put.collection.kind, put.version, put.owner) == ("entries", 1, "anna")
        asked = wm.NoteRequest(on(lfns[1], (20, 21), (5, 9)), "count")
        assert await board.read(asked) == put
        assert await board.history(asked.collection, "count") == [put]
        removed = await board.remove(wm.Removal(asked.collection, "count", "anna", 1))
        assert removed.removed
        assert await board.history(asked.collection, "count") == [put, removed]

    with_board(work)


def test_notes_are_found_page_by_page() -> None:
    async def work(service: Service, lfns: list[str]) -> None:
        board = service.whiteboard
        for value, lfn in enumerate(lfns):
            await board.put(note(on(lfn), value))
        await board.put(note(DATASET, 9, "ben"))
        page = await board.find(wm.NoteSearch("count", limit=3))
        assert [one.value for one in page.notes] == [0, 1, 2]
        assert page.next is not None
        rest = await board.find(wm.NoteSearch("count", after=page.next))
        assert ([one.value for one in rest.notes], rest.next) == ([9], None)
        found = await board.find(wm.NoteSearch("count", at_least=1, below=9))
        assert [one.value for one in found.notes] == [1, 2]
        for search, count in (
            (wm.NoteSearch(owner="ben"), 1),
            (wm.NoteSearch(kind="file"), 3),
            (wm.NoteSearch(collection=DATASET), 1),
        ):
            assert len((await board.find(search)).notes) == count

    with_board(work)


def test_events_are_counted_through_files_and_datasets() -> None:
    async def work(service: Service, lfns: list[str]) -> None:
        board = service.whiteboard
        for value, lfn in enumerate(lfns):
            await board.put(note(on(lfn, (10, 20)), value))
        await board.put(note(DATASET, 9))

        async def values(start: int, stop: int = -1, **more: object) -> list[int]:
            asked = wm.EventNotes("user:x", start, stop, **more)  # type: ignore[arg-type]
            return [one.value for one in (await board.on_events(asked)).notes]

        assert await values(15, lfn=lfns[1]) == [1, 9]
        assert await values(25, lfn=lfns[1]) == [9]
        assert await values(15, 25, lfn=lfns[1], whole=True) == [9]
        assert await values(115, in_dataset=True) == [1, 9]
        assert await values(15, 215, in_dataset=True) == [0, 1, 2, 9]
        assert await values(20, 210, in_dataset=True) == [1, 9]
        assert await values(0, 300, in_dataset=True, limit=2) == [0, 1]
        for refused in (
            values(100, lfn=lfns[1]),
            values(5, 5, lfn=lfns[1]),
            values(300, in_dataset=True),
            values(15, 215, in_dataset=True, whole=True),
            values(5, lfn=lfns[1], tree="None"),
        ):
            with pytest.raises(RequestError):
                await refused
        with pytest.raises(NotFoundError):
            await values(5)

    with_board(work)


def test_long_lists_are_shortened_where_there_are_several(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wm, "INTERVALS_LISTED_MAX", 10)

    async def work(service: Service, lfns: list[str]) -> None:
        board = service.whiteboard
        entries = [(n, n + 1) for n in range(0, 100, 2)]
        parts = [wm.PartRef(lfn, "", entries) for lfn in lfns]
        put = await board.put(note(wm.CollectionRef("user:x", parts), 1))
        assert [part.entries for part in put.collection.parts] == [entries] * 3
        (found,) = (await board.find(wm.NoteSearch())).notes
        assert found.collection.shortened
        assert [(part.events, part.entries) for part in found.collection.parts] == [(50, [])] * 3

    with_board(work)


def test_a_list_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wm, "INTERVALS_MAX", 3)

    async def work(service: Service, lfns: list[str]) -> None:
        await service.whiteboard.put(note(on(lfns[0], (0, 1), (2, 3), (4, 5)), 1))
        with pytest.raises(LimitError) as caught:
            await service.whiteboard.put(note(on(lfns[0], (0, 1), (2, 3), (4, 5), (6, 7)), 1))
        assert caught.value.fields["intervals_max"] == 3

    with_board(work)


def test_what_cannot_be_is_refused() -> None:
    async def work(service: Service, lfns: list[str]) -> None:
        board = service.whiteboard
        first = await board.put(note(DATASET, 1))
        again = wm.NewNote(DATASET, "count", 2, "anna", expected_version=0)
        with pytest.raises(ConflictError) as caught:
            await board.put(again)
        assert caught.value.fields["version"] == first.version
        with pytest.raises(ConflictError):
            await board.put(wm.NewNote(DATASET, "count", 1, "anna", expected_version=0))
        with pytest.raises(AccessError):
            await board.put(note(DATASET, 2, "ben"))
        with pytest.raises(ConflictError):
            await board.define("count", wm.NewKey("float", "anna"))
        for refused in (
            board.put(note(DATASET, "much")),
            board.put(note(on(lfns[0], (90, 101)), 1)),
            board.put(note(wm.CollectionRef("user:x", []), 1)),
            board.put(note(wm.CollectionRef("user:x", [wm.PartRef(lfns[0], "", [])]), 1)),
            board.put(note(wm.CollectionRef("user:x", [wm.PartRef(lfns[0], "Events")]), 1)),
            board.put(note(wm.CollectionRef("user:x", [wm.PartRef(one) for one in lfns]), 1)),
            board.define("a b", wm.NewKey("int", "anna")),
            board.find(wm.NoteSearch(equals=1)),
        ):
            with pytest.raises(RequestError):
                await refused
        for missing in (
            board.put(note(wm.CollectionRef("user:none"), 1)),
            board.put(note(on("none.root"), 1)),
            board.put(wm.NewNote(DATASET, "other", 1, "anna")),
            board.read(wm.NoteRequest(DATASET, "count", 5)),
            board.remove(wm.Removal(on(lfns[0]), "count", "anna")),
        ):
            with pytest.raises(NotFoundError):
                await missing

    with_board(work)
