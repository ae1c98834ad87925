"""The contract of a whiteboard."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import timedelta
from typing import Any, ClassVar

import pytest

from evstream.domain.dataset import Fingerprint
from evstream.domain.errors import AccessError, ConflictError, NotFoundError, RequestError
from evstream.domain.intervals import Interval, IntervalSet
from evstream.domain.names import DatasetName
from evstream.domain.whiteboard import (
    EVERYBODY,
    VALUE_BYTES_MAX,
    Change,
    Collection,
    KeyDefinition,
    Note,
    NoteQuery,
    Part,
    ValueType,
)
from evstream.ports.whiteboard import Whiteboard
from evstream.testing.contracts.suite import Suite
from evstream.testing.manual_clock import ManualClock

OpenWhiteboard = Callable[[], AbstractAsyncContextManager[Whiteboard]]

FILE = Fingerprint(1000, "uuid-a", "a" * 64)
OTHER = Fingerprint(2000, "uuid-b", "b" * 64)
KEYS: tuple[tuple[str, ValueType], ...] = (
    ("good", "bool"),
    ("count", "int"),
    ("weight", "float"),
    ("comment", "string"),
    ("taken", "time"),
    ("setup", "json"),
)
DATASET = Collection.on_dataset(DatasetName("user:a"))


def on(*intervals: Interval, file: Fingerprint = FILE, tree: str = "Events") -> Collection:
    """Return entries of a file as a collection."""
    return Collection.on_parts([Part(file, tree, IntervalSet.of(intervals))])


WHOLE = Collection.on_parts([Part(FILE)])


def change(collection: Collection, key: str, value: Any, author: str = "anna") -> Change:
    """Return a change by somebody."""
    return Change(collection, key, value, author)


def values(notes: list[Note]) -> list[Any]:
    """Return the value of each."""
    return [note.value for note in notes]


class WhiteboardContract(Suite):
    """Override `open_whiteboard`; each opening gives what was kept before."""

    durable: ClassVar[bool] = True

    @pytest.fixture
    def clock(self) -> ManualClock:
        """Make the clock that the whiteboard is given."""
        return ManualClock()

    @pytest.fixture
    def open_whiteboard(self, clock: ManualClock) -> OpenWhiteboard:
        """Make what opens the whiteboard to be tested."""
        raise NotImplementedError

    @pytest.fixture
    async def board(
        self, anyio_backend: str, open_whiteboard: OpenWhiteboard
    ) -> AsyncIterator[Whiteboard]:
        """Open the whiteboard, with a key of each type."""
        async with open_whiteboard() as opened:
            for name, kind in KEYS:
                await opened.define_key(KeyDefinition(name, kind, f"of {kind}", "anna"))
            yield opened

    async def test_keys_have_types_and_owners(self, board: Whiteboard) -> None:
        """A key keeps its type; its owner describes it."""
        assert [key.name for key in await board.keys()] == sorted(name for name, _ in KEYS)
        told = KeyDefinition("count", "int", "tracks", "anna")
        assert await board.define_key(told) == told
        assert told in await board.keys()
        assert await board.define_key(replace(told, owner="ben")) == told
        with pytest.raises(ConflictError):
            await board.define_key(replace(told, type="float"))
        with pytest.raises(AccessError):
            await board.define_key(replace(told, description="hits", owner="ben"))
        for name in ("", "1st", "a b", "x" * 101):
            with pytest.raises(RequestError):
                await board.define_key(KeyDefinition(name, "int"))

    async def test_values_of_each_type(self, board: Whiteboard) -> None:
        """What is put is what is there; a time is in UTC, a whole float is a float."""
        told: dict[str, Any] = {
            "good": True,
            "count": -(2**62),
            "weight": 3,
            "comment": "naïve 'quotes' \u2028",
            "taken": "2026-11-22T07:30:00+01:00",
            "setup": {"b": [1, None, {"c": "d"}], "a": 1.5},
        }
        kept = told | {"weight": 3.0, "taken": "2026-11-22T06:30:00+00:00"}
        for key, value in told.items():
            note = await board.put(change(DATASET, key, value))
            assert note.value == kept[key]
            assert type(note.value) is type(kept[key])
            assert await board.note(DATASET, key) == note
        assert values(await board.find(NoteQuery(collection=DATASET))) == list(kept.values())
        null = await board.put(change(WHOLE, "setup", None))
        assert await board.note(WHOLE, "setup") == null

    async def test_values_of_other_types_are_refused(self, board: Whiteboard) -> None:
        """Nothing is written then."""
        bad: list[tuple[str, Any]] = [
            ("good", 1),
            ("count", True),
            ("count", 1.5),
            ("count", 2**63),
            ("weight", "3"),
            ("weight", float("nan")),
            ("comment", 5),
            ("comment", "a\0b"),
            ("taken", "2026-11-22T07:30:00"),
            ("taken", 5),
            ("taken", "0001-01-01T00:00:00+23:59"),
            ("taken", "9999-12-31T23:59:59-23:59"),
            ("setup", "x" * VALUE_BYTES_MAX),
        ]
        for key, value in bad:
            with pytest.raises(RequestError):
                await board.put(change(DATASET, key, value))
        with pytest.raises(NotFoundError):
            await board.put(change(DATASET, "unheard-of", 1))
        assert await board.find(NoteQuery()) == []

    async def test_every_version_stays(self, board: Whiteboard, clock: ManualClock) -> None:
        """What a note was can be read after it was changed and removed."""
        first = await board.put(change(DATASET, "count", 1))
        clock.advance(5.0)
        second = await board.put(change(DATASET, "count", 2))
        assert (first.version, second.version, second.number) == (1, 2, first.number)
        assert second.changed > first.changed
        assert await board.put(change(DATASET, "count", 2)) == second
        gone = await board.remove(change(DATASET, "count", None))
        assert (gone.version, gone.removed, gone.value) == (3, True, None)
        with pytest.raises(NotFoundError):
            await board.note(DATASET, "count")
        assert await board.find(NoteQuery(key="count")) == []
        again = await board.put(change(DATASET, "count", 2))
        assert again.version == 4
        assert await board.history(DATASET, "count") == [first, second, gone, again]
        assert await board.note(DATASET, "count", 1) == first
        assert await board.note(DATASET, "count", 3) == gone
        with pytest.raises(NotFoundError):
            await board.note(DATASET, "count", 5)
        assert await board.history(WHOLE, "count") == []
        with pytest.raises(NotFoundError):
            await board.remove(change(WHOLE, "count", None))

    async def test_two_who_change_at_once(self, board: Whiteboard) -> None:
        """Who expects a version that is gone is refused; a repeat of what was done is not."""
        new = replace(change(DATASET, "count", 1), expected_version=0, id="one")
        first = await board.put(new)
        assert await board.put(new) == first
        for other in ("", "two"):
            with pytest.raises(ConflictError):
                await board.put(replace(new, id=other))
        with pytest.raises(ConflictError):
            await board.put(replace(new, value=2, id="two"))
        second = await board.put(replace(new, value=2, expected_version=1, id="two"))
        assert second.version == 2
        assert await board.put(new) == first
        with pytest.raises(ConflictError) as caught:
            await board.put(replace(new, value=3, expected_version=1, id="three"))
        assert caught.value.fields["version"] == 2
        with pytest.raises(ConflictError):
            await board.remove(replace(new, expected_version=1, id="three"))
        gone = replace(new, value=None, expected_version=2, id="three")
        assert await board.remove(gone) == await board.remove(gone)
        with pytest.raises(ConflictError):
            await board.remove(replace(gone, id="four"))
        assert len(await board.history(DATASET, "count")) == 3

    async def test_ids_of_changes_are_forgotten_after_some_time(
        self, board: Whiteboard, clock: ManualClock
    ) -> None:
        """The versions stay; what comes again under the id is a change of its own then."""
        life = timedelta(days=7)
        first = replace(change(DATASET, "count", 1), id="one")
        made = await board.put(first)
        clock.advance(life.total_seconds() - 1)
        second = replace(change(DATASET, "count", 2), id="two")
        await board.put(second)
        assert await board.forget_change_ids(life, 10) == 0
        assert await board.put(first) == made
        clock.advance(1)
        assert await board.forget_change_ids(life, 10) == 1
        assert await board.forget_change_ids(life, 10) == 0
        assert (await board.put(first)).version == 3
        assert (await board.put(second)).version == 2
        assert [note.value for note in await board.history(DATASET, "count")] == [1, 2, 1]
        counts = [await board.forget_change_ids(timedelta(), 1) for _ in range(3)]
        assert counts == [1, 1, 0]

    async def test_an_id_is_of_one_change(self, board: Whiteboard) -> None:
        """What comes again under the id of another change is refused; other notes do not mind."""
        new = replace(change(DATASET, "count", 1), id="one")
        await board.put(new)
        others = (replace(new, value=2), replace(new, author="ben"), replace(new, writers=("ben",)))
        for other in others:
            with pytest.raises(ConflictError):
                await board.put(other)
        with pytest.raises(ConflictError):
            await board.remove(replace(new, value=None))
        assert (await board.put(replace(new, key="weight"))).version == 1
        assert (await board.put(replace(new, collection=WHOLE))).version == 1

    async def test_json_that_looks_alike_is_another_value(self, board: Whiteboard) -> None:
        """True, 1 and 1.0 differ, wherever they stand; the order of names does not count."""
        values: list[Any] = [{"ok": 1}, {"ok": True}, {"ok": 1.0}, [1], [True], 1, True]
        for version, value in enumerate(values, 1):
            note = await board.put(change(DATASET, "setup", value))
            assert (note.version, repr(note.value)) == (version, repr(value))
        first = await board.put(change(WHOLE, "setup", {"a": 1, "b": 2}))
        assert await board.put(change(WHOLE, "setup", {"b": 2, "a": 1})) == first

    async def test_who_may_write(self, board: Whiteboard) -> None:
        """The first author owns a note, and says who else may change it."""
        await board.put(change(DATASET, "count", 1, "anna"))
        by_ben = change(DATASET, "count", 2, "ben")
        for refused in (board.put(by_ben), board.remove(by_ben)):
            with pytest.raises(AccessError):
                await refused
        await board.put(replace(change(DATASET, "count", 1, "anna"), writers=("ben",)))
        note = await board.put(by_ben)
        assert (note.owner, note.author, note.writers, note.version) == ("anna", "ben", ("ben",), 3)
        with pytest.raises(AccessError):
            await board.put(replace(by_ben, writers=("ben", "eve")))
        await board.put(replace(change(DATASET, "count", 2, "anna"), writers=(EVERYBODY,)))
        assert (await board.put(change(DATASET, "count", 9, "eve"))).author == "eve"

    async def test_notes_are_found_by_value(self, board: Whiteboard) -> None:
        """By key, value, bounds, kind, collection and owner; and page by page."""
        long = "b" * 150
        for start, word in enumerate(("a", "b", long + "1", long + "2", "c")):
            await board.put(change(on((start, start + 1)), "comment", word, "anna"))
            await board.put(change(on((start, start + 1)), "weight", start - 1.5, "ben"))
        await board.put(change(DATASET, "comment", "b", "ben"))

        async def found(**query: Any) -> list[Any]:
            return values(await board.find(NoteQuery(**query)))

        assert await found(key="weight", at_least=-0.5, below=2.5) == [-0.5, 0.5, 1.5]
        assert await found(key="weight", equals=0.5) == [0.5]
        assert await found(key="comment", equals="b") == ["b", "b"]
        assert await found(key="comment", at_least=long + "2") == [long + "2", "c"]
        assert await found(key="comment", at_least="b", below=long + "2") == ["b", long + "1", "b"]
        assert await found(key="comment", owner="ben") == ["b"]
        assert await found(kind="dataset") == ["b"]
        assert await found(collection=on((0, 1))) == ["a", -1.5]
        assert await found(collection=on((0, 7))) == []
        first = await board.find(NoteQuery(key="weight", limit=2))
        rest = await board.find(NoteQuery(key="weight", after=first[-1].number))
        assert values(first + rest) == [-1.5, -0.5, 0.5, 1.5, 2.5]
        await board.put(change(DATASET, "taken", "2026-01-02T00:00:00Z"))
        times = {"at_least": "2026-01-02T00:30:00+01:00", "below": "2026-01-03T00:00:00Z"}
        assert len(await found(key="taken", **times)) == 1
        await board.put(change(DATASET, "setup", {"b": 1, "a": 2}))
        assert len(await found(key="setup", equals={"a": 2, "b": 1})) == 1
        await board.put(change(DATASET, "good", False))
        assert await found(key="good", equals=False) == [False]
        with pytest.raises(RequestError):
            await board.find(NoteQuery(equals=1))
        with pytest.raises(RequestError):
            await board.find(NoteQuery(key="weight", equals="much"))
        with pytest.raises(NotFoundError):
            await board.find(NoteQuery(key="unheard-of"))

    async def test_which_notes_an_event_has(self, board: Whiteboard) -> None:
        """Those on its entry, on its file, on the datasets named; for a range any or all."""
        for value, collection in enumerate(
            [
                on((100, 200)),
                on((150, 160), (170, 171), (500, 600)),
                on((0, 10**9)),
                on((100, 200), tree="Runs"),
                on((100, 200), file=OTHER),
                WHOLE,
                DATASET,
            ]
        ):
            await board.put(change(collection, "count", value))

        async def noted(start: int, stop: int, **more: Any) -> list[Any]:
            return values(await board.touching(FILE, "Events", (start, stop), **more))

        assert await noted(150, 151) == [0, 1, 2, 5]
        assert await noted(160, 161) == [0, 2, 5]
        assert await noted(199, 201) == [0, 2, 5]
        assert await noted(199, 201, whole=True) == [2, 5]
        assert await noted(155, 171, whole=True) == [0, 2, 5]
        assert await noted(10**9, 10**9 + 1) == [5]
        assert await noted(150, 151, datasets=[DatasetName("user:a")]) == [0, 1, 2, 5, 6]
        assert await noted(150, 151, after=2, limit=1) == [2]
        await board.remove(change(WHOLE, "count", None))
        assert await noted(10**9, 10**9 + 1) == []
        unknown = Fingerprint(1, "", "c" * 64)
        assert await board.touching(unknown, "Events", (0, 1)) == []

    async def test_long_lists_of_entries(self, board: Whiteboard) -> None:
        """They come back as they were told, and each of their entries is found."""
        chance = random.Random(7)
        starts = sorted(chance.sample(range(0, 10**7, 3), 20_000))
        entries = IntervalSet.of((start, start + chance.randrange(1, 3)) for start in starts)
        other = IntervalSet.of((start, start + 1) for start in range(0, 5000, 2))
        parts = [Part(FILE, "Events", entries), Part(OTHER, "Events", other)]
        listed = Collection.on_parts(parts)
        assert listed == Collection.on_parts(reversed(parts))
        assert listed.kind == "entries"
        note = await board.put(change(listed, "good", True))
        assert await board.find(NoteQuery()) == [note]
        for start, stop in chance.sample(entries.intervals, 10):
            assert await board.touching(FILE, "Events", (start, stop), whole=True) == [note]
            assert not await board.touching(FILE, "Events", (stop, stop + 1))

    async def test_collections_that_cannot_be(self) -> None:
        """Nothing, a file beside entries, an interval that is none."""
        for parts in ([], [Part(FILE), Part(OTHER)], [Part(FILE, "Events")]):
            with pytest.raises(RequestError):
                Collection.on_parts(parts)
        for entries in (IntervalSet(((5, 5),)), IntervalSet(((-1, 5),))):
            with pytest.raises(RequestError):
                Collection.on_parts([Part(FILE, "Events", entries)])

    async def test_what_was_noted_stays(self, open_whiteboard: OpenWhiteboard) -> None:
        """A whiteboard that is opened again knows what it was told."""
        if not self.durable:
            pytest.skip("keeps nothing")
        async with open_whiteboard() as opened:
            await opened.define_key(KeyDefinition("count", "int"))
            note = await opened.put(change(on((1, 2), (5, 9)), "count", 1))
        async with open_whiteboard() as again:
            assert await again.find(NoteQuery(key="count")) == [note]
