"""Slices of entries that do not follow each other: asked for, made, refused, picked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uproot

from evstream.adapters.formats import KnownFormats
from evstream.assembly import Application
from evstream.client import Service
from evstream.client.picking import pick, slices_to_pick
from evstream.domain.errors import NotFoundError, RequestError
from evstream.testing.simulator import sample_files
from evstream.wire import messages as m
from tests.unit.web.test_api import with_application

FILES = sample_files(files=2, entries=100)
PFNS = list(FILES)
STEPS = [(3, 4), (10, 12), (99, 100)]


def with_service(work: Callable[[Service], Awaitable[None]]) -> None:
    async def ask(application: Application) -> None:
        service = application.client()
        await service.add_dataset(m.NewDataset([m.NewFile(PFNS[0])], "user:one"))
        await work(service)
        await service.close()

    with_application(ask, FILES)


def events_of(path: Path) -> list[int]:
    with uproot.open(path) as file:
        return list(map(int, file["Events"]["event"].array(library="np")))


def whole(tmp_path: Path, number: int) -> list[int]:
    path = tmp_path / f"source{number}.root"
    path.write_bytes(FILES[PFNS[number]])
    return events_of(path)


def test_a_product_holds_exactly_the_steps(tmp_path: Path) -> None:
    async def work(service: Service) -> None:
        plan = await service.describe_slice(m.NewSlice("user:one", steps=STEPS))
        assert plan.descriptor["sources"][0]["entries"] == [list(step) for step in STEPS]
        await service.fetch_product(plan, tmp_path / "p.root")
        # However they are said, the same entries are the same product.
        said = [(99, 100), (11, 12), (3, 4), (10, 11)]
        again = await service.describe_slice(m.NewSlice("user:one", steps=said))
        assert again.key == plan.key
        one = await service.describe_slice(m.NewSlice("user:one", steps=[(5, 6), (6, 9)]))
        same = await service.describe_slice(m.NewSlice("user:one", "", "", 5, 9))
        assert one.key == same.key

    with_service(work)
    source = whole(tmp_path, 0)
    assert events_of(tmp_path / "p.root") == [source[at] for at in (3, 10, 11, 99)]


def test_steps_that_cannot_be_are_refused(tmp_path: Path) -> None:
    async def work(service: Service) -> None:
        for steps in ([(3, 3)], [(5, 3), (7, 8)], [(0, 1), (99, 101)]):
            with pytest.raises(RequestError, match="not within"):
                await service.describe_slice(m.NewSlice("user:one", steps=steps))
        with pytest.raises(RequestError, match="and steps"):
            await service.describe_slice(m.NewSlice("user:one", entry_stop=5, steps=STEPS))
        plan = await service.describe_slice(m.NewSlice("user:one", steps=STEPS))
        for entries in ([], [[5, 6], [3, 4]], [[1, 2], [2, 3]], [[1, 1], [2, 3]]):
            plan.descriptor["sources"][0]["entries"] = entries
            with pytest.raises(RequestError, match="ascend and do not touch"):
                await service.register_product(plan.descriptor)
        for entries in ([[1, 2], [99, 1 << 60]], [[-3, 2], [5, 6]]):
            plan.descriptor["sources"][0]["entries"] = entries
            odd = await service.register_product(plan.descriptor)
            with pytest.raises(RequestError, match="are asked for"):
                await service.fetch_product(odd, tmp_path / "never.root")

    with_service(work)


def test_what_a_dataset_asks_for_is_picked_from_all_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evstream.client.picking.STEPS_MAX", 2)

    async def work(service: Service) -> None:
        asked = [{"Events": STEPS}, {"Events": [(0, 2)]}]
        files = [m.NewFile(pfn, asked=each) for pfn, each in zip(PFNS, asked, strict=True)]
        view = await service.add_dataset(m.NewDataset(files, "user:two"))
        slices = slices_to_pick(view, "", "", [])
        assert len(slices) == 3
        keys = await pick(service, KnownFormats(), slices, tmp_path / "all.root")
        assert len(set(keys)) == 3
        last = slices_to_pick(view, view.files[1].lfn, "Events", ["event"])
        await pick(service, KnownFormats(), last, tmp_path / "last.root")
        with pytest.raises(NotFoundError, match="no file x"):
            slices_to_pick(view, "x", "", [])
        with pytest.raises(NotFoundError, match="no tree Nope"):
            slices_to_pick(view, "", "Nope", [])
        with pytest.raises(RequestError, match="no entries"):
            await pick(service, KnownFormats(), [], tmp_path / "none.root")

    with_service(work)
    first, second = whole(tmp_path, 0), whole(tmp_path, 1)
    assert events_of(tmp_path / "all.root") == [first[n] for n in (3, 10, 11, 99)] + second[:2]
    assert events_of(tmp_path / "last.root") == second[:2]
    assert not list(tmp_path.glob(".evstream-*"))
