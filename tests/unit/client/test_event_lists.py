"""Events set aside and lumi blocks that are done, of sources that only the service can open."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pytest
import uproot
from msgspec import structs
from pyarrow import parquet

from evstream.adapters.formats import KnownFormats
from evstream.adapters.storage.memory import MemoryStore
from evstream.assembly import Application
from evstream.client import Service
from evstream.client.event_lists import EventLists
from evstream.domain.errors import DataError, RequestError
from evstream.domain.granularity import Granularity
from evstream.domain.ledger import Failure, Success
from evstream.domain.names import LeaseId, WorkerId
from evstream.domain.outputs import OutputRecord
from evstream.domain.payload import Payload
from evstream.domain.states import Answer
from evstream.domain.streams import OutputStream
from evstream.domain.task import Limits, TakenOutputs
from evstream.testing.virtual_time import VirtualClock
from evstream.wire import messages as m
from evstream.wire import work_messages as wm
from tests.unit.web.test_api import with_application

ENTRIES = 30
LUMI_NAMES = ("run", "luminosityBlock", "event")
COLUMNS = {
    "run": np.where(np.arange(ENTRIES) < 20, 7, 8),
    "luminosityBlock": 1 + np.arange(ENTRIES) // 5,
    "event": 100 + np.arange(ENTRIES, dtype=np.uint64),
    "x": np.arange(ENTRIES) * 0.5,
}
BAD = [3, 12]
"""Entries that are set aside."""


def _ttree(path: Path) -> None:
    with uproot.recreate(path) as file:
        file.mktree("Events", COLUMNS)


def _rntuple(path: Path) -> None:
    with uproot.recreate(path) as file:
        file.mkrntuple("Events", COLUMNS)


def _parquet(path: Path) -> None:
    parquet.write_table(pa.table(COLUMNS), path)


def _hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        for name, values in COLUMNS.items():
            file[f"Events/{name}"] = values


def _hepmc(path: Path) -> None:
    events = (f"E {100 + entry} 0 0\nU GEV MM\n" for entry in range(ENTRIES))
    path.write_text(
        "HepMC::Version 3.02\nHepMC::Asciiv3-START_EVENT_LISTING\n"
        + "".join(events)
        + "HepMC::Asciiv3-END_EVENT_LISTING\n"
    )


def _lhe(path: Path) -> None:
    events = "<event>\n 0 1 1 1 1 1\n</event>\n" * ENTRIES
    text = f'<LesHouchesEvents version="3.0">\n<init>\n 1\n</init>\n{events}</LesHouchesEvents>\n'
    path.write_text(text)


SOURCES: dict[str, Callable[[Path], None]] = {
    "ttree.root": _ttree,
    "rntuple.root": _rntuple,
    "e.parquet": _parquet,
    "e.h5": _hdf5,
    "e.hepmc": _hepmc,
    "e.lhe": _lhe,
}
STORE = "https://far.away/store/"


async def _process(service: Service, *pfns: str) -> None:
    """Do twenty events of a task, an event a range, but for the bad ones."""
    files = [m.NewFile(pfn) for pfn in pfns]
    dataset = await service.add_dataset(m.NewDataset(files, "user:x"))
    task = m.NewTask(
        name="t",
        dataset=dataset.name,
        payload=Payload("cp {input} {output}"),
        granularity=Granularity(events=1),
        outputs=(OutputStream(optional=True),),
        limits=Limits(failures_max=1, bisections_max=0),
    )
    await service.submit(task)
    lease, worker = LeaseId("l"), WorkerId("w")
    claim = await service.claim(wm.ClaimRequest(worker, 20), lease)
    reports = [wm.UnitReport(lease, worker, unit.ref, success=Success(())) for unit in claim.units]
    for entry in BAD:
        failed = Failure("payload", "exit 1")
        reports[entry] = structs.replace(reports[entry], success=None, failure=failed)
    assert set(await service.report(reports)) == {Answer.ACCEPTED}


def _with_task(work: Callable[[Service], Awaitable[None]], files: dict[str, bytes]) -> None:
    """Run some work when a task over some files is half done."""

    async def ask(application: Application) -> None:
        service = application.client()
        try:
            await _process(service, *files)
            await work(service)
        finally:
            await service.close()

    with_application(ask, files)


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, bytes]:
    """A source of each format: its physical name and its content."""
    path = tmp_path / request.param
    SOURCES[request.param](path)
    return STORE + path.name, path.read_bytes()


def _ttree_source(tmp_path: Path) -> tuple[str, bytes]:
    _ttree(tmp_path / "ttree.root")
    return STORE + "ttree.root", (tmp_path / "ttree.root").read_bytes()


def test_events_set_aside_are_numbered_in_every_format(source: tuple[str, bytes]) -> None:
    async def work(service: Service) -> None:
        events = await EventLists(service, KnownFormats()).set_aside(1)
        assert [(event.entry, event.error) for event in events] == [(e, "exit 1") for e in BAD]
        suffix = pfn.rpartition(".")[2]
        for event in events:
            assert event.lfn == pfn.removeprefix(STORE)
            if suffix == "lhe":
                assert (event.numbers, event.unknown) == ({}, "e.lhe has no event_number")
            elif suffix == "hepmc":
                assert (event.numbers, event.unknown) == ({"event_number": 100 + event.entry}, "")
            else:
                row = {name: int(COLUMNS[name][event.entry]) for name in LUMI_NAMES}
                assert (event.numbers, event.unknown) == (row, "")

    pfn, content = source
    _with_task(work, {pfn: content})


def test_lumi_blocks_are_told_or_it_is_said_that_they_cannot(source: tuple[str, bytes]) -> None:
    async def work(service: Service) -> None:
        lists = EventLists(service, KnownFormats())
        if pfn.endswith(("hepmc", "lhe")):
            with pytest.raises(DataError, match=r"the lumi blocks of e.* cannot be told"):
                await lists.lumis(1)
        else:
            assert await lists.lumis(1) == {"7": [[2, 2], [4, 4]]}

    pfn, content = source
    _with_task(work, {pfn: content})


def test_names_of_branches_can_be_given(tmp_path: Path) -> None:
    async def work(service: Service) -> None:
        formats = KnownFormats()
        events = await EventLists(service, formats, names=("event",)).set_aside(1)
        assert [event.numbers for event in events] == [{"event": 103}, {"event": 112}]
        swapped = EventLists(service, formats, names=("luminosityBlock", "run"))
        assert await swapped.lumis(1) == {"2": [[7, 7]], "4": [[7, 7]]}
        with pytest.raises(DataError, match=r"ttree.root has no period, x"):
            await EventLists(service, formats, names=("period", "x")).lumis(1)
        with pytest.raises(RequestError, match="give two branches"):
            await EventLists(service, formats, names=("event",)).lumis(1)
        # A branch of other values than whole numbers numbers nothing.
        events = await EventLists(service, formats, names=("run", "x")).set_aside(1)
        assert {event.unknown for event in events} == {"ttree.root has no run, x"}

    pfn, content = _ttree_source(tmp_path)
    _with_task(work, {pfn: content})


def test_a_source_that_is_gone_is_told_and_copies_stand_in(tmp_path: Path) -> None:
    async def work(service: Service) -> None:
        formats = KnownFormats()
        del files[pfn]
        events = await EventLists(service, formats).set_aside(1)
        assert [event.entry for event in events] == BAD
        for event in events:
            assert event.numbers == {}
            assert "ttree.root cannot be read: " in event.unknown
        with pytest.raises(DataError, match=r"cannot be told: ttree\.root cannot be read"):
            await EventLists(service, formats).lumis(1)
        copies = tmp_path / "copies" / "deep"
        copies.mkdir(parents=True)
        (copies / "another-name").write_bytes(content)
        at_hand = EventLists(service, formats, tmp_path / "copies")
        assert [e.numbers["event"] for e in await at_hand.set_aside(1)] == [103, 112]
        assert await at_hand.lumis(1) == {"7": [[2, 2], [4, 4]]}

    pfn, content = _ttree_source(tmp_path)
    files = {pfn: content}
    _with_task(work, files)


def test_where_an_event_is_damaged_others_are_still_told(tmp_path: Path) -> None:
    async def work(service: Service) -> None:
        files[pfn] = bytes(damaged)
        events = await EventLists(service, KnownFormats()).set_aside(1)
        assert [e.numbers.get("event") for e in events] == [None, 112]
        assert "cannot be read" in events[0].unknown

    path = tmp_path / "chunks.root"
    with uproot.recreate(path, compression=uproot.ZLIB(1)) as file:
        tree = file.mktree("Events", {name: values.dtype for name, values in COLUMNS.items()})
        for start in range(0, ENTRIES, 10):
            tree.extend({name: values[start : start + 10] for name, values in COLUMNS.items()})
    pfn, damaged = STORE + path.name, bytearray(path.read_bytes())
    files = {pfn: bytes(damaged)}
    with uproot.open(path) as file:
        branch = file["Events"]["event"]
        stop = int(branch.member("fBasketSeek")[0] + branch.member("fBasketBytes")[0])
    damaged[stop - 20 : stop - 10] = b"\xff" * 10
    _with_task(work, files)


async def _submit_chained(service: Service, **source: Any) -> int:
    """Submit a task of three events a range; none has to keep any."""
    task = m.NewTask(
        name="t",
        payload=Payload("cp {input} {output}"),
        granularity=Granularity(events=3),
        outputs=(OutputStream(optional=True),),
        limits=Limits(failures_max=1, bisections_max=0),
        **source,
    )
    return (await service.submit(task)).id


async def _work_off(
    service: Service, task: int, folder: Path, kept: Callable[[int], bool], units: int = 99
) -> None:
    """Do units of a task; its range from entry 3 on fails, and some keep nothing."""
    await VirtualClock().sleep(2.0)
    lease, worker = LeaseId(f"l{task}"), WorkerId("w")
    claim = await service.claim(wm.ClaimRequest(worker, units, task=task), lease)
    assert claim.units
    for unit in claim.units:
        assert isinstance(unit, wm.RangeUnit)
        first, stop = unit.ref.entry_start, unit.ref.entry_stop
        outputs: tuple[OutputRecord, ...] = ()
        if kept(first):
            path = folder / "output.root"
            with uproot.recreate(path) as file:
                file.mktree("Events", {name: every[first:stop] for name, every in COLUMNS.items()})
            stored = await service.upload(unit.outputs[0].url, path)
            held = (stored.name, stored.size, stored.sha256, stored.adler32)
            outputs = (OutputRecord("output", *held, {"Events": stop - first}),)
        report = wm.UnitReport(lease, worker, unit.ref, success=Success(outputs))
        if task == 1 and first == 3:
            report = wm.UnitReport(lease, worker, unit.ref, failure=Failure("payload", "exit 1"))
        assert await service.report([report]) == [Answer.ACCEPTED]


def test_lumi_blocks_of_a_chain_are_those_done_in_each_generation(tmp_path: Path) -> None:
    pfn, content = _ttree_source(tmp_path)
    store = MemoryStore()

    async def work(application: Application) -> None:
        service = application.client()
        lists = EventLists(service, KnownFormats())
        dataset = await service.add_dataset(m.NewDataset([m.NewFile(pfn)], "user:x"))
        first = await _submit_chained(service, dataset=dataset.name)
        second = await _submit_chained(service, dataset="", takes=(TakenOutputs(first),))
        third = await _submit_chained(service, dataset="", takes=(TakenOutputs(second),))
        # Of ten ranges eight are tried: entries 3:6 fail, 12:15 keep nothing.
        await _work_off(service, first, tmp_path, lambda entry: entry != 12, units=8)
        assert await lists.lumis(first) == {"7": [[3, 4]]}
        assert await lists.lumis(second) == {}, "nothing of it is done"
        await _work_off(service, second, tmp_path, lambda entry: False)
        assert await lists.lumis(second) == {"7": [[3, 4]]}
        assert await lists.lumis(third) == {"7": [[3, 4]]}
        # The rest of the first is done, and waits for the second.
        await _work_off(service, first, tmp_path, lambda entry: True)
        assert await lists.lumis(first) == {"7": [[3, 4]], "8": [[5, 6]]}
        assert await lists.lumis(third) == {"7": [[3, 4]]}
        await service.withdraw(first, pfn)
        assert await lists.lumis(second) == {}
        await service.close()

    with_application(work, ChainMap({pfn: content}, store.contents), store=store)
