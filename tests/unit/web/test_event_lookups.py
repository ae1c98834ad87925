"""Events looked up over HTTP: what a service knows of the index beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from evstream.assembly import Application
from evstream.client import Service
from evstream.domain.errors import LimitError, NotFoundError, RequestError
from evstream.eventindex import FOLDER, EventIndex, answers, open_builder
from evstream.eventindex.segment import Segment
from evstream.settings import Settings
from evstream.testing.simulator import sample_files
from evstream.wire.event_messages import EventQuestion, EventSpan
from tests.unit.eventindex.test_index import EVENTS, add_files, file_of
from tests.unit.web.test_api import DOOR, with_application

FILES = sample_files(files=1, entries=10)


def ask(work: Any, data: Path) -> None:
    async def with_client(application: Application) -> None:
        service = application.client()
        await work(service)
        await service.close()

    with_application(with_client, FILES, Settings(data_dir=str(data)))


def test_a_service_answers_for_the_index_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER

    async def work(service: Service) -> None:
        question = EventQuestion([(1, None, 5), (1, 9, 5), (1, 9, 205), (1, 20, 205)])
        with pytest.raises(NotFoundError, match="no event index"):
            await service.find_events(question)
        add_files(folder, range(1))
        found = await service.find_events(question)
        # Lumi block 9 holds the events whose entries are 90 to 99, and numbers fall.
        assert [(p.lumi, p.event, p.entry) for p in found.places] == [(9, 5, 94), (9, 5, 94)]
        assert found.missing == [(1, 9, 205), (1, 20, 205)]
        assert [f.steps for f in found.files] == [[(94, 95)]]
        # It is built on, and the service sees it.
        add_files(folder, range(3))
        found = await service.find_events(question)
        assert found.missing == [(1, 9, 205), (1, 20, 205)]
        whole = EventQuestion(spans=[EventSpan(1, 0, 3 * EVENTS)], lumis={"1": [(0, 4)]})
        found = await service.find_events(whole)
        assert found.selected == 3 * EVENTS
        assert [f.lfn for f in found.files] == ["0.root", "1.root", "2.root"]
        lumis = await service.find_events(EventQuestion(lumis={"1": [(10, 11)]}, guid="GUID-1"))
        assert [f.steps for f in lumis.files] == [[(0, 20)]]
        assert lumis.places == []

    ask(work, tmp_path)


def test_questions_that_cannot_be_answered_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_files(tmp_path / FOLDER, range(1))

    async def work(service: Service) -> None:
        for bad in (
            EventQuestion(spans=[EventSpan(1, 5, 4)]),
            EventQuestion(spans=[EventSpan(1, 0, 1 << 64)]),
            EventQuestion([(1, None, 1 << 64)]),
            EventQuestion(lumis={"x": [(1, 2)]}),
            EventQuestion(lumis={"1" * 5000: [(1, 2)]}),
            EventQuestion(lumis={"1": [(5, 1)]}),
            EventQuestion([(1 << 32, None, 1)]),
        ):
            with pytest.raises(RequestError):
                await service.find_events(bad)
        with pytest.raises(NotFoundError, match="user:none"):
            await service.find_events(EventQuestion(dataset="user:none"))
        monkeypatch.setattr(answers, "EVENTS_ASKED_MAX", EVENTS - 1)
        with pytest.raises(LimitError, match="one by one"):
            await service.find_events(EventQuestion(spans=[EventSpan(1, 0, EVENTS)]))
        by_lumis = await service.find_events(EventQuestion(lumis={"1": [(0, EVENTS)]}))
        assert by_lumis.selected == EVENTS
        # What two ranges hold together is too much, though each is not.
        half = EventSpan(1, 0, EVENTS // 2)
        with pytest.raises(LimitError, match="one by one"):
            await service.find_events(EventQuestion(spans=[half, half]))
        twice = await service.find_events(EventQuestion(lumis={"1": [(0, 0)], "01": [(1, 1)]}))
        assert [f.steps for f in twice.files] == [[(0, 20)]]

    ask(work, tmp_path)


def test_what_is_too_much_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_builder(tmp_path / FOLDER) as builder:
        for number in range(5):
            # As HepMC counts its events: all files have the same numbers.
            nothing = np.zeros(EVENTS)
            builder.add(file_of(number), nothing, nothing, np.arange(EVENTS))
    monkeypatch.setattr(answers, "EVENTS_READ_MAX", EVENTS)
    monkeypatch.setattr(EventIndex, "in_span", None)
    monkeypatch.setattr(Segment, "rows", None)

    async def work(service: Service) -> None:
        for question in (
            EventQuestion(spans=[EventSpan(0, 0, EVENTS // 5)]),
            EventQuestion(spans=[EventSpan(0, 0, 9)] * 3),
            EventQuestion([(0, None, event) for event in range(EVENTS // 5 + 1)]),
        ):
            with pytest.raises(LimitError, match="would be read"):
                await service.find_events(question)

    ask(work, tmp_path)


def test_the_door_is_before_it(tmp_path: Path) -> None:
    async def work(application: Application) -> None:
        transport = httpx2.ASGITransport(application.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            path = "/v1/event-lookups"
            assert (await client.post(path, json={})).status_code in (401, 403)
            assert (await client.post(path, json={}, headers=DOOR)).status_code == 404
            assert (await client.post(path, json={"x": 1}, headers=DOOR)).status_code == 400

    with_application(work, FILES, Settings(data_dir=str(tmp_path)))
