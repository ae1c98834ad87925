"""Chains under any history, in memory and on SQLite: each event is counted once.

Two tasks over files, one that takes the outputs of both, one that takes that one's.
Hypothesis writes the histories: ranges are committed, fail and are lost in any order, files
are reprocessed and withdrawn, tasks retried, outputs damaged before they are taken, and the
head forgets all that it had in memory. Then everything is done, and receipts and files are
compared.
"""

from __future__ import annotations

import asyncio
import io
import shutil
import tempfile
from collections import ChainMap, Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from evstream.adapters.catalogue.memory import MemoryDatabase
from evstream.adapters.catalogue.sqlite import SqliteDatabase
from evstream.adapters.formats import KnownFormats
from evstream.adapters.formats.tables import EVENTS
from evstream.adapters.offload import InPlace
from evstream.adapters.source.memory import MemoryOpener
from evstream.adapters.storage.memory import MemoryStore
from evstream.assembly import Application, Keys, Parts
from evstream.domain.errors import ConflictError, NotFoundError
from evstream.domain.granularity import Granularity
from evstream.domain.ledger import Failure, Success
from evstream.domain.lineage import check_lineage
from evstream.domain.names import LeaseId, TaskId, WorkerId
from evstream.domain.outputs import OutputRecord
from evstream.domain.payload import Payload
from evstream.domain.receipt import check_ledger, receipt_digest
from evstream.domain.states import TaskState
from evstream.domain.streams import Merge, OutputStream
from evstream.domain.task import TakenOutputs
from evstream.settings import Settings
from evstream.testing.manual_clock import ManualClock
from evstream.testing.seeded_ids import SeededIds
from evstream.wire import messages as m
from evstream.wire import work_messages as w

FIRST, SECOND, BOTH, LAST = range(1, 5)
TASKS = st.sampled_from([FIRST, SECOND, BOTH, LAST])
SIZES = {"a.parquet": 9, "b.parquet": 6, "c.parquet": 8}
ROUNDS_MAX = 60
RULES = st.sampled_from([False, True, Merge("events", 4), Merge("file")])
WHOLE = (TaskState.DONE.value, TaskState.FINISHED.value)


def written(events: Iterable[int]) -> bytes:
    """Return a file of numbered events."""
    file = io.BytesIO()
    pq.write_table(pa.table({"event": pa.array(events, pa.int64())}), file)
    return file.getvalue()


def read(content: bytes) -> list[int]:
    numbers: list[int] = pq.read_table(io.BytesIO(content))["event"].to_pylist()
    return numbers


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    yield content


def ended_well(receipt: dict[str, Any]) -> bool:
    """Whether a task did not fail, nor was cancelled."""
    return receipt["task"]["state"] in WHOLE or (
        receipt["counts"]["withdrawn"] == receipt["counts"]["events"]
    )


class ChainMachine(RuleBasedStateMachine):
    """Drives a service by hand: its loops are rules here."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp(prefix="evstream-chain-"))
        self.clock, self.ids, self.store = ManualClock(), SeededIds(1), MemoryStore()
        self.sources = {
            name: written(range(1000 * place, 1000 * place + size))
            for place, (name, size) in enumerate(SIZES.items())
        }
        self.readable = ChainMap(self.sources, self.store.contents)
        self.database = self.open_database()
        self.leases = 0

    def open_database(self) -> MemoryDatabase | SqliteDatabase:
        raise NotImplementedError

    def start(self) -> None:
        """Start a head that remembers nothing but what is in the database."""
        parts = Parts(
            clock=self.clock,
            ids=self.ids,
            offload=InPlace(),
            ledger=self.database.ledger,
            catalogue=self.database.catalogue,
            products=self.database.products,
            whiteboard=self.database.whiteboard,
            links=self.database.links,
            store=self.store,
            opener=MemoryOpener(self.readable),
            formats=KnownFormats(),
        )
        self.application = Application(parts, Keys(b"u" * 32, b"r" * 32), Settings())
        self.service = self.application.client()

    def do(self, call: Any) -> Any:
        return self.runner.run(_await(call))

    def teardown(self) -> None:
        try:
            self.finish()
        finally:
            self.do(self.database.close())
            self.runner.close()
            shutil.rmtree(self.folder)

    # What happens

    @initialize(rules=st.tuples(RULES, RULES, RULES, RULES))
    def submit(self, rules: tuple[Merge | bool, ...]) -> None:
        self.start()
        inputs: list[dict[str, Any]] = []
        for name, files in (("sim:one", ["a.parquet", "b.parquet"]), ("sim:two", ["c.parquet"])):
            new = m.NewDataset([m.NewFile(file) for file in files], name)
            inputs.append({"dataset": self.do(self.service.add_dataset(new)).name})
        inputs.append({"takes": (TakenOutputs(FIRST), TakenOutputs(SECOND))})
        inputs.append({"takes": (TakenOutputs(BOTH),)})
        for number, (given, merge) in enumerate(zip(inputs, rules, strict=True), FIRST):
            task = m.NewTask(
                name=f"task {number}",
                payload=Payload("copy {input} {output}"),
                granularity=Granularity(events=3),
                outputs=(OutputStream(suffix=".parquet", merge=merge),),
                **given,
            )
            assert self.do(self.service.submit(task)).id == number

    @rule(task=TASKS, units=st.integers(1, 4), fails=st.booleans())
    def work(self, task: int, units: int, fails: bool) -> None:
        self.report(self.claim(task, units), fails=fails)

    def claim(self, task: int | None, units: int) -> list[Any]:
        self.leases += 1
        request = w.ClaimRequest("anne", units, task=task)
        answer = self.do(self.service.claim(request, LeaseId(f"lease{self.leases}")))
        return [(answer.lease, unit) for unit in answer.units]

    def report(self, held: list[Any], *, fails: bool) -> None:
        for lease, unit in held:
            outcome: dict[str, Any] = {"failure": Failure("payload", "exit 1")}
            if not fails:
                outcome = {"success": Success((self.leave(unit),), 1.0, 1.0, 1)}
            self.do(self.service.report([w.UnitReport(lease, "anne", unit.ref, **outcome)]))

    def leave(self, unit: w.RangeUnit | w.MergeUnit) -> OutputRecord:
        """Do a unit: every seventh event is dropped by the first tasks, and merges keep all."""
        if isinstance(unit, w.MergeUnit):
            slot = unit.output
            events = [e for one in unit.inputs for e in read(self.store.contents[one.name])]
        else:
            slot = unit.outputs[0]
            events = read(self.readable[unit.lfn])[unit.ref.entry_start : unit.ref.entry_stop]
            events = [event for event in events if event % 7]
        stored = self.do(self.store.put(slot.name, pieces(written(events))))
        held = {EVENTS: len(events)}
        return OutputRecord(
            slot.stream, slot.name, stored.size, stored.sha256, stored.adler32, held
        )

    @rule(task=TASKS, units=st.integers(1, 3), late=st.booleans())
    def lose(self, task: int, units: int, late: bool) -> None:
        held = self.claim(task, units)
        self.do(self.service.forget_worker(WorkerId("anne")))
        if late:
            self.report(held, fails=False)

    @rule(tasks=st.lists(TASKS, min_size=1, max_size=4))
    def advance(self, tasks: list[int]) -> None:
        for task in tasks:
            self.do(self.application._finishing.advance(TaskId(task)))

    @rule(task=TASKS, which=st.integers(0, 9), withdraw=st.integers(0, 3))
    def take_back(self, task: int, which: int, withdraw: int) -> None:
        view = self.do(self.service.task(task))
        files = self.do(self.service.dataset(view.dataset)).files
        if files:
            call = self.service.reprocess if withdraw else self.service.withdraw
            with suppress(ConflictError, NotFoundError):
                self.do(call(task, files[which % len(files)].lfn))

    @rule(task=TASKS)
    def retry(self, task: int) -> None:
        with suppress(ConflictError):
            self.do(self.service.retry(task))

    @rule(which=st.integers(0, 9))
    def damage(self, which: int) -> None:
        """Lose an output of a first task before it was taken."""
        outputs = [o for task in (FIRST, SECOND) for o in self.do(self.service.outputs(task))]
        taken = {file.lfn for file in self.do(self.service.dataset(f"task:{BOTH}")).files}
        left = [o.name for o in outputs if o.name not in taken and self.is_final(o)]
        if left:
            self.do(self.store.delete(left[which % len(left)]))

    def is_final(self, output: m.OutputView) -> bool:
        """Whether an output is one that is taken, rather than one to be merged."""
        task = FIRST if output.name.startswith(f"tasks/{FIRST}/") else SECOND
        (stream,) = self.do(self.service.task(task)).spec.outputs
        return stream.merging is None

    @rule()
    def restart(self) -> None:
        self.start()

    @rule()
    def sweep(self) -> None:
        self.do(self.application.sweep())

    # What comes of it

    def finish(self) -> None:
        """Have everything done, and check what is left."""
        for _ in range(ROUNDS_MAX):
            for task in (FIRST, SECOND, BOTH, LAST):
                self.do(self.application._finishing.advance(TaskId(task)))
            held = self.claim(None, 50)
            self.report(held, fails=False)
            states = [view.state for view in self.do(self.service.tasks())]
            if not held and all(state.final for state in states):
                break
        else:
            raise AssertionError(f"not done: {states}")
        receipts = [self.do(self.service.receipt(task)) for task in (FIRST, SECOND, BOTH, LAST)]
        given = {receipt_digest(receipt): receipt for receipt in receipts}
        for receipt in receipts:
            check_ledger(receipt)
            self.check_events(receipt)
        for receipt, parents in ((receipts[2], receipts[:2]), (receipts[3], receipts[2:3])):
            found = check_lineage(receipt, given)
            if receipt["task"]["state"] in WHOLE:
                assert not found.unproved, found
                assert all(ended_well(parent) for parent in parents)
                left = Counter(event for parent in parents for event in self.events_of(parent))
                assert max(left.values(), default=1) == 1
                files = (event for file in receipt["files"] for event in self.file(file["lfn"]))
                assert Counter(files) == left

    def file(self, name: str) -> list[int]:
        return read(self.readable[name])

    def events_of(self, receipt: dict[str, Any]) -> list[int]:
        final = [output for output in receipt["outputs"] if output["merged_into"] is None]
        return [event for output in final for event in self.file(output["name"])]

    def check_events(self, receipt: dict[str, Any]) -> None:
        """Compare the events in a task's outputs with those that it committed."""
        committed = [
            event
            for lfn, start, stop, *_ in receipt["commits"]
            for event in self.file(lfn)[start:stop]
            if event % 7
        ]
        assert sorted(self.events_of(receipt)) == sorted(committed)


async def _await(call: Any) -> Any:
    return await call


class InMemory(ChainMachine):
    def open_database(self) -> MemoryDatabase:
        return MemoryDatabase(self.clock)


class OnSqlite(ChainMachine):
    def open_database(self) -> SqliteDatabase:
        return SqliteDatabase(self.folder, self.clock, inline=True)


def _quickly(machine: Callable[[], ChainMachine]) -> Any:
    case = machine.TestCase  # type: ignore[attr-defined]
    case.settings = settings(
        max_examples=settings().max_examples // 10,
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    return case


@pytest.mark.parametrize("machine", [InMemory, OnSqlite])
@pytest.mark.parametrize("merge", [False, True])
def test_what_is_taken_back_after_the_end_is_followed(
    machine: type[ChainMachine], merge: bool
) -> None:
    chain = machine()
    try:
        chain.submit((False, merge, merge, False))
        chain.finish()
        for call in (chain.service.reprocess, chain.service.withdraw, chain.service.withdraw):
            # The second withdrawal finds nothing to do, but the receipt is another one.
            chain.clock.advance(1)
            chain.do(call(FIRST, "a.parquet"))
            states = [chain.do(chain.service.task(task)).state for task in (FIRST, BOTH, LAST)]
            assert not any(state.final for state in states), states
            chain.start()
            chain.finish()
        left = Counter(chain.events_of(chain.do(chain.service.receipt(LAST))))
        assert set(left) == {e for e in (*range(1000, 1006), *range(2000, 2008)) if e % 7}
    finally:
        chain.teardown()


TestInMemory = _quickly(InMemory)
TestOnSqlite = _quickly(OnSqlite)
