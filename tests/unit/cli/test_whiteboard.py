"""``evstream whiteboard``: what people type, and what notes it puts on what."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from evstream.cli.whiteboard import On, find, first_notes
from evstream.client import Service
from evstream.domain.errors import RequestError
from evstream.wire import whiteboard_messages as wm
from tests.unit.web.test_whiteboard import note, on, with_board


def test_lists_of_entries_are_read(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text('{"a.root": [5, [100, 200]], "b.root": [3]}')
    assert On(entry_list=path, tree="Events").collection("user:a") == wm.CollectionRef(
        "user:a",
        [
            wm.PartRef("a.root", "Events", [(5, 6), (100, 200)]),
            wm.PartRef("b.root", "Events", [(3, 4)]),
        ],
    )


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        "5",
        '{"a.root": []}',
        '{"a.root": [5], "b.root": []}',
        '{"a.root": "57"}',
        '{"a.root": ["57"]}',
        '{"a.root": {"57": 1}}',
        '{"a.root": [[100, 200, 300]]}',
        '{"a.root": [[1.9, 3.9]]}',
        '{"a.root": [true]}',
        '{"a.root": [5], "a.root": [6]}',
        '{"a.root": [' + "9" * 5000 + "]}",
        "[" * 100_000,
        "",
    ],
    ids=lambda text: text[:30],
)
def test_what_is_no_list_of_entries_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "list.json"
    path.write_text(text)
    with pytest.raises(RequestError, match="no list of entries"):
        On(entry_list=path).collection("user:a")


def test_flags_that_would_count_for_nothing_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text('{"a.root": [5]}')
    for flags in (On("b.root", entry_list=path), On(entries=("1:3",), entry_list=path)):
        with pytest.raises(RequestError, match="--entry-list"):
            flags.collection("user:a")
    for flags in (On("b.root"), On(tree="Events"), On(entries=("5",)), On(entry_list=path)):
        with pytest.raises(RequestError, match="--dataset"):
            find("quality", on=flags)


def test_lists_that_are_cut_say_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(wm, "NOTES_MAX", 2)

    async def work(service: Service, lfns: list[str]) -> None:
        for value, lfn in enumerate(lfns):
            await service.whiteboard.put(note(on(lfn), value))

        async def ask(after: int, size: int) -> wm.NotesAnswer:
            return await service.whiteboard.find(replace(search, after=after, limit=size))

        search = wm.NoteSearch()
        for limit, values in ((5, [0, 1, 2]), (3, [0, 1, 2]), (2, [0, 1]), (1, [0])):
            assert [one.value for one in await first_notes(ask, limit)] == values
            told = capsys.readouterr().err
            assert told == ("" if limit >= 3 else f"there are more than {limit}: see --limit\n")
        with pytest.raises(RequestError):
            await first_notes(ask, 0)

    with_board(work)
