"""The contract of a catalogue."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import timedelta
from typing import ClassVar

import pytest

from evstream.domain.dataset import Dataset, Fingerprint, Origin, SourceFile
from evstream.domain.errors import ConflictError, NotFoundError, RequestError
from evstream.domain.ledger import BookRules
from evstream.domain.merging import MergeGroup
from evstream.domain.names import DatasetName, Guid, Lfn, Pfn, TaskId
from evstream.domain.outputs import OutputRecord
from evstream.domain.payload import Payload
from evstream.domain.scheduling import Scheduling
from evstream.domain.splitting import Chunk
from evstream.domain.states import TaskState
from evstream.domain.streams import OutputStream
from evstream.domain.task import (
    TakeBack,
    TakenBack,
    TakenOutputs,
    Task,
    TaskSpec,
    merge_book,
    process_book,
)
from evstream.ports.catalogue import Catalogue
from evstream.ports.ledger import Ledger
from evstream.testing.contracts.catalogue_accounts import CatalogueAccountsContract
from evstream.testing.manual_clock import ManualClock

Stores = tuple[Catalogue, Ledger]
OpenStores = Callable[[], AbstractAsyncContextManager[Stores]]

RULES = BookRules(events_per_range=10)
CHUNKS = (Chunk(0, Lfn("a.root"), 0, 25),)
SPEC = TaskSpec(
    name="copy",
    dataset=DatasetName("user:zmumu"),
    tree="Events",
    payload=Payload("cp {input} {output}"),
    branches=("muon_pt", "muon_eta"),
    outputs=(OutputStream(merge=True),),
)


MERGE_RULES = BookRules(1)


def group(number: int, name: str = "tasks/1/output/2-0-0-10.a1.l.root") -> MergeGroup:
    """Return a merge of one output."""
    part = OutputRecord("output", name, 9, "0" * 64, "0" * 8, {"Events": 10})
    return MergeGroup(number, "output", 1, (0, 0), True, (part,), ((0, 0, 10),))


def source_file(number: int, digest: str = "d") -> SourceFile:
    """Return a file unlike those with other numbers."""
    return SourceFile(
        lfn=Lfn(f"file{number}.root"),
        guid=Guid(f"00000000-0000-4000-8000-{number:012d}"),
        pfns=(Pfn(f"data/file{number}.root"),),
        fingerprint=Fingerprint(1000 + number, f"uuid-{number}", f"{digest}{number}"),
        trees={"Events": 25, "dir/Runs": 0},
        asked={"Events": ((0, 10), (20, 25))},
    )


CHAINED = replace(SPEC, dataset=DatasetName(""), takes=(TakenOutputs(1, "output"),))


def taken_file(number: int, entries: int = 25) -> SourceFile:
    """Return a file that is an output of task 1."""
    made = source_file(number)
    origin = Origin(TaskId(1), made.lfn, "0" * 64, number)
    return replace(made, trees={"Events": entries}, asked={}, origin=origin)


ZMUMU = Dataset(DatasetName("user:zmumu"), (source_file(0), source_file(1)))


class CatalogueContract(CatalogueAccountsContract):
    """Override `open_stores`; set ``durable = False`` for a catalogue that forgets."""

    durable: ClassVar[bool] = True

    @pytest.fixture
    def clock(self) -> ManualClock:
        """Return the database's clock."""
        return ManualClock()

    @pytest.fixture
    def open_stores(self, clock: ManualClock) -> OpenStores:
        """Return what opens the catalogue and the ledger of its books."""
        raise NotImplementedError("override open_stores")

    @pytest.fixture
    async def stores(self, open_stores: OpenStores) -> AsyncIterator[Stores]:
        """Open an empty catalogue and its ledger."""
        async with open_stores() as stores:
            yield stores

    @pytest.fixture
    def catalogue(self, stores: Stores) -> Catalogue:
        """Return the catalogue."""
        return stores[0]

    @staticmethod
    async def add_task(catalogue: Catalogue, request_id: str = "request-1") -> Task:
        """Add a task with one chunk."""
        return await catalogue.add_task(SPEC, request_id, RULES, CHUNKS)

    # Datasets

    async def test_a_dataset_comes_back_as_it_was(self, catalogue: Catalogue) -> None:
        await catalogue.add_dataset(ZMUMU, {"d0": b"index"})
        assert await catalogue.dataset(ZMUMU.name) == ZMUMU
        assert await catalogue.datasets() == [(ZMUMU.name, 2, 2001)]

    async def test_the_same_dataset_again_changes_nothing(self, catalogue: Catalogue) -> None:
        await catalogue.add_dataset(ZMUMU, {})
        await catalogue.add_dataset(ZMUMU, {})
        assert len(await catalogue.datasets()) == 1

    async def test_a_name_is_not_given_to_other_content(self, catalogue: Catalogue) -> None:
        await catalogue.add_dataset(ZMUMU, {})
        with pytest.raises(ConflictError):
            await catalogue.add_dataset(Dataset(ZMUMU.name, (source_file(0),)), {})
        assert await catalogue.dataset(ZMUMU.name) == ZMUMU

    async def test_checksums_that_are_told_later_are_learnt(self, catalogue: Catalogue) -> None:
        first, second = ZMUMU.files
        told = replace(first, checksums={"adler32": "0000abcd"})
        more = replace(first, checksums={"md5": "0" * 32})
        for file in (first, told, more, first):
            await catalogue.add_dataset(replace(ZMUMU, files=(file, second)), {})
        both = {"adler32": "0000abcd", "md5": "0" * 32}
        known = await catalogue.dataset(ZMUMU.name)
        assert [file.checksums for file in known.files] == [both, {}]
        assert (await catalogue.file(first.fingerprint)).checksums == both
        assert await catalogue.datasets() == [(ZMUMU.name, 2, 2001)]

    async def test_checksums_that_differ_are_refused(self, catalogue: Catalogue) -> None:
        first, second = (replace(file, checksums={"adler32": "00000001"}) for file in ZMUMU.files)
        await catalogue.add_dataset(replace(ZMUMU, files=(first, second)), {})
        other = replace(second, checksums={"adler32": "00000002"})
        with pytest.raises(ConflictError, match="adler32"):
            await catalogue.add_dataset(replace(ZMUMU, files=(first, other)), {})
        known = await catalogue.dataset(ZMUMU.name)
        assert [file.checksums for file in known.files] == [{"adler32": "00000001"}] * 2

    async def test_a_dataset_without_files_is_refused(self, catalogue: Catalogue) -> None:
        with pytest.raises(RequestError):
            await catalogue.add_dataset(Dataset(DatasetName("user:none"), ()), {})

    async def test_datasets_are_listed_by_name(self, catalogue: Catalogue) -> None:
        for name in ("user:b", "user:a", "user:ä"):
            await catalogue.add_dataset(Dataset(DatasetName(name), (source_file(0),)), {})
        assert [name for name, _, _ in await catalogue.datasets()] == ["user:a", "user:b", "user:ä"]

    async def test_a_file_is_found_by_its_content(self, catalogue: Catalogue) -> None:
        await catalogue.add_dataset(ZMUMU, {})
        wanted = source_file(1)
        assert await catalogue.file(wanted.fingerprint) == wanted
        with pytest.raises(NotFoundError):
            await catalogue.file(source_file(2).fingerprint)
        with pytest.raises(NotFoundError):
            await catalogue.file(Fingerprint(1001, "another", "d1"))

    async def test_files_are_found_by_their_names(self, catalogue: Catalogue) -> None:
        await catalogue.add_dataset(ZMUMU, {})
        first = source_file(0)
        again = replace(first, pfns=(Pfn("/elsewhere"),))
        other = Dataset(DatasetName("other:x"), (again,))
        await catalogue.add_dataset(other, {})
        none = Lfn("none.root")
        assert await catalogue.files_named([first.lfn, none, first.lfn]) == {
            first.lfn: [(other.name, again), (ZMUMU.name, first)],
            none: [],
        }
        assert await catalogue.files_named([]) == {}

    async def test_source_indexes_are_kept(self, catalogue: Catalogue) -> None:
        await catalogue.add_dataset(ZMUMU, {"d0": b"\x00index"})
        assert await catalogue.source_index("d0") == b"\x00index"
        assert await catalogue.source_index("d1") is None
        await catalogue.add_dataset(ZMUMU, {"d1": b"made again"})
        assert await catalogue.source_index("d1") == b"made again"

    async def test_an_unknown_dataset_is_not_found(self, catalogue: Catalogue) -> None:
        with pytest.raises(NotFoundError):
            await catalogue.dataset(DatasetName("user:none"))

    # Tasks

    async def test_a_task_opens_its_book(self, stores: Stores, clock: ManualClock) -> None:
        catalogue, ledger = stores
        task = await self.add_task(catalogue)
        assert task.spec == SPEC
        assert (task.state, task.created, task.ended) == (TaskState.RUNNING, clock.now(), None)
        assert await catalogue.task(task.id) == task
        assert await ledger.chunks(process_book(task.id)) == list(CHUNKS)

    async def test_a_known_request_gives_its_task(self, stores: Stores) -> None:
        catalogue, ledger = stores
        first = await self.add_task(catalogue)
        await ledger.cancel_book(process_book(first.id))
        assert await self.add_task(catalogue) == first
        other = await self.add_task(catalogue, "request-2")
        assert other.id != first.id
        assert await catalogue.tasks() == [first, other]

    async def test_request_ids_are_forgotten_some_time_after_the_end(
        self, catalogue: Catalogue, clock: ManualClock
    ) -> None:
        life = timedelta(days=7)
        first, second, active = [await self.add_task(catalogue, f"request-{n}") for n in "123"]
        ended = await catalogue.end_task(first.id, TaskState.DONE, "", None)
        clock.advance(1)
        await catalogue.end_task(second.id, TaskState.ABORTED, "", None)
        clock.advance(life.total_seconds() - 2)
        assert await catalogue.forget_request_ids(life, 10) == 0
        assert await self.add_task(catalogue, "request-1") == ended
        clock.advance(1)
        assert await catalogue.forget_request_ids(life, 10) == 1
        clock.advance(life.total_seconds())
        assert await catalogue.forget_request_ids(life, 10) == 1
        assert await catalogue.forget_request_ids(life, 10) == 0
        assert await catalogue.task(first.id) == ended
        # It is free for another task, and then that one's.
        again = await self.add_task(catalogue, "request-1")
        assert again.id > active.id
        assert (again.request_id, again.state) == ("request-1", TaskState.RUNNING)
        assert await self.add_task(catalogue, "request-1") == again
        assert await self.add_task(catalogue, "request-3") == active

    async def test_request_ids_are_forgotten_some_at_a_time(
        self, catalogue: Catalogue, clock: ManualClock
    ) -> None:
        for number in range(5):
            task = await self.add_task(catalogue, f"request-{number}")
            await catalogue.end_task(task.id, TaskState.DONE, "", None)
            clock.advance(1)
        counts = [await catalogue.forget_request_ids(timedelta(), 2) for _ in range(4)]
        assert counts == [2, 2, 1, 0]

    async def test_an_opened_task_keeps_its_request_id(
        self, catalogue: Catalogue, clock: ManualClock
    ) -> None:
        task = await self.add_task(catalogue)
        await catalogue.end_task(task.id, TaskState.DONE, "", None)
        opened = await catalogue.take_back(task.id, TakeBack("key", "again", redo=((0, 0, 10),)))
        clock.advance(1)
        assert await catalogue.forget_request_ids(timedelta(), 10) == 0
        assert await self.add_task(catalogue) == opened

    async def test_tasks_are_listed_by_state(self, catalogue: Catalogue) -> None:
        first = await self.add_task(catalogue, "request-1")
        second = await self.add_task(catalogue, "request-2")
        third = await self.add_task(catalogue, "request-3")
        await catalogue.end_task(second.id, TaskState.DONE, "", None)
        assert await catalogue.tasks([TaskState.RUNNING]) == [first, third]
        assert await catalogue.tasks([TaskState.MERGING]) == []
        assert await catalogue.tasks([]) == []
        both = await catalogue.tasks([TaskState.DONE, TaskState.RUNNING])
        assert [task.id for task in both] == [first.id, second.id, third.id]

    async def test_merging_opens_the_merge_book_once(self, stores: Stores) -> None:
        catalogue, ledger = stores
        task = await self.add_task(catalogue)
        merges = [Chunk(0, Lfn("output"), 0, 3)]
        merging = await catalogue.start_merging(task.id, BookRules(1), merges)
        assert merging.state is TaskState.MERGING
        assert await catalogue.start_merging(task.id, BookRules(1), []) == merging
        assert await ledger.chunks(merge_book(task.id)) == merges

    async def test_merges_are_chunks_of_the_merge_book(self, stores: Stores) -> None:
        catalogue, ledger = stores
        task = await self.add_task(catalogue)
        await catalogue.add_merges(task.id, MERGE_RULES, [group(0)])
        await catalogue.add_merges(task.id, MERGE_RULES, [group(0), group(1)])
        assert await catalogue.merges(task.id) == [group(0), group(1)]
        assert await catalogue.merge(task.id, 1) == group(1)
        chunks = await ledger.chunks(merge_book(task.id))
        assert chunks == [Chunk(n, Lfn("output"), 0, 1) for n in (0, 1)]
        # That the ranges are done changes nothing of what there is to merge.
        await catalogue.start_merging(task.id, MERGE_RULES, [])
        assert await ledger.chunks(merge_book(task.id)) == chunks

    async def test_a_merge_is_not_replaced_by_another_of_its_number(self, stores: Stores) -> None:
        catalogue, ledger = stores
        task = await self.add_task(catalogue)
        await catalogue.add_merges(task.id, MERGE_RULES, [group(0), group(1)])
        # Whoever planned on beside others is told, and nothing of that is kept.
        with pytest.raises(ConflictError, match="another merge 1"):
            await catalogue.add_merges(task.id, MERGE_RULES, [group(1, "changed"), group(2)])
        assert await catalogue.merges(task.id) == [group(0), group(1)]
        assert len(await ledger.chunks(merge_book(task.id))) == 2

    async def test_only_what_runs_is_merged(self, stores: Stores) -> None:
        catalogue, _ = stores
        task = await self.add_task(catalogue)
        with pytest.raises(NotFoundError):
            await catalogue.merge(task.id, 0)
        with pytest.raises(NotFoundError):
            await catalogue.add_merges(TaskId(99), MERGE_RULES, [group(0)])
        await catalogue.end_task(task.id, TaskState.ABORTED, "", None)
        with pytest.raises(ConflictError):
            await catalogue.add_merges(task.id, MERGE_RULES, [group(0)])
        assert await catalogue.merges(task.id) == []

    async def test_an_ended_task_does_not_merge(self, stores: Stores) -> None:
        catalogue, ledger = stores
        task = await self.add_task(catalogue)
        await catalogue.end_task(task.id, TaskState.ABORTED, "cancelled", None)
        with pytest.raises(ConflictError):
            await catalogue.start_merging(task.id, BookRules(1), CHUNKS)
        with pytest.raises(NotFoundError):
            await ledger.chunks(merge_book(task.id))

    async def test_the_first_end_stays(self, catalogue: Catalogue, clock: ManualClock) -> None:
        task = await self.add_task(catalogue)
        clock.advance(5)
        receipt = {"task": task.id, "intervals": [[0, 25]], "text": "µ"}
        ended = await catalogue.end_task(task.id, TaskState.FINISHED, "2 set aside", receipt)
        assert (ended.state, ended.reason) == (TaskState.FINISHED, "2 set aside")
        assert ended.ended == task.created + timedelta(seconds=5)
        clock.advance(5)
        assert await catalogue.end_task(task.id, TaskState.ABORTED, "late", {}) == ended
        assert await catalogue.receipt(task.id) == receipt

    async def test_a_task_does_not_end_in_a_state_that_is_no_end(
        self, catalogue: Catalogue
    ) -> None:
        task = await self.add_task(catalogue)
        with pytest.raises(RequestError):
            await catalogue.end_task(task.id, TaskState.MERGING, "", None)

    async def test_a_task_is_paused_and_resumed(self, catalogue: Catalogue) -> None:
        task = await self.add_task(catalogue)
        assert (await catalogue.resume_task(task.id)) == task
        paused = await catalogue.pause_task(task.id)
        assert paused.state is TaskState.PAUSED
        assert not paused.state.final
        assert await catalogue.pause_task(task.id) == paused
        assert await catalogue.tasks([TaskState.PAUSED]) == [paused]
        assert await catalogue.resume_task(task.id) == task
        assert (await catalogue.pause_task(task.id, "no disk")).reason == "no disk"
        assert (await catalogue.pause_task(task.id)).reason == "no disk", "why it was, stays"
        assert await catalogue.resume_task(task.id) == task
        await catalogue.end_task(task.id, TaskState.DONE, "", None)
        for call in (catalogue.pause_task, catalogue.resume_task):
            with pytest.raises(ConflictError):
                await call(task.id)

    async def test_a_task_gets_another_place_among_others(self, catalogue: Catalogue) -> None:
        task = await self.add_task(catalogue)
        place = Scheduling("analysis", 7)
        changed = await catalogue.reschedule(task.id, place)
        assert changed == replace(task, spec=replace(task.spec, scheduling=place))
        assert await catalogue.task(task.id) == changed
        await catalogue.end_task(task.id, TaskState.DONE, "", None)
        with pytest.raises(ConflictError):
            await catalogue.reschedule(task.id, Scheduling())
        with pytest.raises(NotFoundError):
            await catalogue.reschedule(TaskId(99), place)

    async def test_an_archived_task_has_no_books_and_is_not_opened_again(
        self, catalogue: Catalogue
    ) -> None:
        task = await self.add_task(catalogue)
        ended = await catalogue.end_task(task.id, TaskState.DONE, "", {"task": task.id})
        with pytest.raises(ConflictError, match="opened again"):
            await catalogue.drop_books(task)
        await catalogue.drop_books(ended)
        await catalogue.drop_books(ended)
        assert await catalogue.task(task.id) == ended
        assert await catalogue.receipt(task.id) == {"task": task.id}
        change = TakeBack("key", "again", redo=((0, 0, 10),))
        with pytest.raises(ConflictError, match="is archived"):
            await catalogue.take_back(task.id, change)
        assert await catalogue.task(task.id) == ended

    async def test_a_paused_merge_runs_again(self, catalogue: Catalogue) -> None:
        task = await self.add_task(catalogue)
        await catalogue.start_merging(task.id, BookRules(1), [Chunk(0, Lfn("output"), 0, 1)])
        assert (await catalogue.pause_task(task.id)).state is TaskState.PAUSED
        assert (await catalogue.resume_task(task.id)).state is TaskState.RUNNING
        merging = await catalogue.start_merging(task.id, BookRules(1), [])
        assert merging.state is TaskState.MERGING

    async def test_what_is_taken_back_opens_the_task_again(self, stores: Stores) -> None:
        catalogue, ledger = stores
        task = await self.add_task(catalogue)
        book, merges = process_book(task.id), merge_book(task.id)
        await catalogue.start_merging(task.id, BookRules(1), [Chunk(0, Lfn("output"), 0, 1)])
        await ledger.cancel_book(book)
        await catalogue.end_task(task.id, TaskState.ABORTED, "cancelled", {"signed": True})
        places = [(chunk.number, chunk.entry_start, chunk.entry_stop) for chunk in CHUNKS]
        change = TakeBack("key-1", "again", redo=tuple(places[:1]), merges=(0,))
        opened = await catalogue.take_back(task.id, change)
        redone = CHUNKS[0].entries
        assert opened.taken_back == TakenBack("key-1", redone, 0, 0)
        assert (opened.state, opened.ended, opened.reason) == (TaskState.RUNNING, None, "")
        with pytest.raises(NotFoundError):
            await catalogue.receipt(task.id)
        assert (await ledger.progress(book)).ready == redone
        assert (await ledger.progress(merges)).withdrawn == 1
        await catalogue.end_task(task.id, TaskState.DONE, "", {"signed": 2})
        ended = await catalogue.task(task.id)
        assert await catalogue.take_back(task.id, change) == ended
        assert await catalogue.receipt(task.id) == {"signed": 2}
        change = TakeBack("key-2", "withdrawn", discard=tuple(places))
        opened = await catalogue.take_back(task.id, change)
        assert opened.taken_back == TakenBack(
            "key-2", 0, sum(c.entries for c in CHUNKS), 0, times=2
        )

    async def test_why_a_task_has_paused_is_kept_when_work_is_taken_back(
        self, catalogue: Catalogue
    ) -> None:
        task = await self.add_task(catalogue)
        await catalogue.pause_task(task.id, "no node can do it")
        opened = await catalogue.take_back(task.id, TakeBack("key-1", "again"))
        assert (opened.state, opened.reason) == (TaskState.PAUSED, "no node can do it")
        assert (await catalogue.resume_task(task.id)).reason == ""

    async def test_a_paused_task_stays_paused_when_work_is_taken_back(
        self, catalogue: Catalogue
    ) -> None:
        task = await self.add_task(catalogue)
        await catalogue.pause_task(task.id)
        opened = await catalogue.take_back(task.id, TakeBack("key-1", "again"))
        assert opened.state is TaskState.PAUSED

    async def test_a_chained_task_is_fed(self, stores: Stores) -> None:
        catalogue, ledger = stores
        parent = await self.add_task(catalogue)
        task = await catalogue.add_task(CHAINED, "chained", RULES, ())
        assert task.dataset == DatasetName(f"task:{task.id}")
        assert await catalogue.dataset(task.dataset) == Dataset(task.dataset, ())
        assert (await catalogue.takers(parent.id), await catalogue.takers(task.id)) == (
            [task.id],
            [],
        )
        files = [taken_file(10_000_000), taken_file(0), taken_file(1, entries=0)]
        for given in (files[:1], files):
            await catalogue.take_outputs(task.id, given, {"d0": b"index"})
        in_order = (files[1], files[2], files[0])
        assert await catalogue.dataset(task.dataset) == Dataset(task.dataset, in_order)
        size = sum(file.fingerprint.size for file in files)
        assert (task.dataset, 3, size) in await catalogue.datasets()
        assert await ledger.chunks(process_book(task.id)) == [
            Chunk(0, files[1].lfn, 0, 25),
            Chunk(10_000_000, files[0].lfn, 0, 25),
        ]
        assert await catalogue.file(files[1].fingerprint) == files[1]
        assert await catalogue.source_index("d0") == b"index"

    async def test_files_that_are_retracted_leave_the_task(self, stores: Stores) -> None:
        catalogue, ledger = stores
        await self.add_task(catalogue)
        task = await catalogue.add_task(CHAINED, "chained", RULES, ())
        files = [taken_file(0), taken_file(1)]
        await catalogue.take_outputs(task.id, files, {})
        await catalogue.end_task(task.id, TaskState.DONE, "", {"signed": True})
        with pytest.raises(ConflictError):
            await catalogue.take_outputs(task.id, [taken_file(2)], {})
        opened = await catalogue.take_back(task.id, TakeBack("key", "again", retracted=(0,)))
        assert (opened.state, opened.times_taken_back) == (TaskState.RUNNING, 1)
        left = Dataset(task.dataset, (files[1],), (files[0],))
        assert await catalogue.dataset(task.dataset) == left
        assert (task.dataset, 1, files[1].fingerprint.size) in await catalogue.datasets()
        assert [c.number for c in await ledger.chunks(process_book(task.id))] == [1]
        with pytest.raises(NotFoundError):
            await catalogue.file(files[0].fingerprint)
        # Its number is not free again.
        await catalogue.take_outputs(task.id, [replace(taken_file(0), lfn=Lfn("other"))], {})
        assert await catalogue.dataset(task.dataset) == left
        assert [c.number for c in await ledger.chunks(process_book(task.id))] == [1]

    async def test_a_number_is_not_given_to_two_outputs(self, stores: Stores) -> None:
        catalogue, ledger = stores
        await self.add_task(catalogue)
        task = await catalogue.add_task(CHAINED, "chained", RULES, ())
        await catalogue.take_outputs(task.id, [taken_file(0)], {})
        # Whoever feeds the task beside others is told, and nothing of that is kept.
        first, second = taken_file(0), taken_file(1)
        assert first.origin is not None
        other = replace(first, origin=replace(first.origin, output="another"))
        with pytest.raises(ConflictError, match="another file 0"):
            await catalogue.take_outputs(task.id, [second, other], {})
        assert (await catalogue.dataset(task.dataset)).files == (first,)
        assert [c.number for c in await ledger.chunks(process_book(task.id))] == [0]

    async def test_outputs_are_in_the_store_that_was_there_first(
        self, catalogue: Catalogue
    ) -> None:
        assert await catalogue.output_store() == ""
        assert await catalogue.output_store("one") == "one"
        assert await catalogue.output_store() == "one"
        assert await catalogue.output_store("another") == "one"

    async def test_no_receipt_before_the_end(self, catalogue: Catalogue) -> None:
        task = await self.add_task(catalogue)
        with pytest.raises(NotFoundError):
            await catalogue.receipt(task.id)
        await catalogue.end_task(task.id, TaskState.ABORTED, "", None)
        with pytest.raises(NotFoundError):
            await catalogue.receipt(task.id)

    async def test_unknown_tasks_are_not_found(self, catalogue: Catalogue) -> None:
        none = TaskId(99)
        with pytest.raises(NotFoundError):
            await catalogue.task(none)
        with pytest.raises(NotFoundError):
            await catalogue.receipt(none)
        with pytest.raises(NotFoundError):
            await catalogue.pause_task(none)
        with pytest.raises(NotFoundError):
            await catalogue.take_back(none, TakeBack("key", "again"))
        with pytest.raises(NotFoundError):
            await catalogue.start_merging(none, RULES, CHUNKS)
        with pytest.raises(NotFoundError):
            await catalogue.end_task(none, TaskState.DONE, "", None)

    async def test_time_is_the_databases(self, catalogue: Catalogue, clock: ManualClock) -> None:
        clock.advance(1.25)
        assert await catalogue.now() == clock.now()

    async def test_what_was_answered_is_there_after_opening_again(
        self, open_stores: OpenStores
    ) -> None:
        if not self.durable:
            pytest.skip("this catalogue does not outlive its process")
        async with open_stores() as (catalogue, _):
            await catalogue.add_dataset(ZMUMU, {"d0": b"index"})
            task = await self.add_task(catalogue)
            await catalogue.end_task(task.id, TaskState.DONE, "", {"signed": True})
        async with open_stores() as (catalogue, ledger):
            assert await catalogue.dataset(ZMUMU.name) == ZMUMU
            assert await catalogue.source_index("d0") == b"index"
            assert (await catalogue.task(task.id)).state is TaskState.DONE
            assert await catalogue.receipt(task.id) == {"signed": True}
            assert (await ledger.progress(process_book(task.id))).entries == 25
            assert (await self.add_task(catalogue, "request-2")).id != task.id
