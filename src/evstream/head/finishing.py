"""The ends of tasks: ranges done, then merges, then the receipt."""

from __future__ import annotations

import logging
from typing import Any

from evstream.domain.ledger import CANCELLED, Progress
from evstream.domain.names import DatasetName, TaskId
from evstream.domain.receipt import BookOfTask, build_receipt, check_ledger
from evstream.domain.states import RangeState, TaskState
from evstream.domain.task import Task, merge_book, process_book
from evstream.domain.words import counted
from evstream.head.books import books_of, merges_of
from evstream.head.chains import ALL_WITHDRAWN, Chains, Taken
from evstream.head.merging import Merging
from evstream.head.nudges import Nudges
from evstream.head.turns import Turns
from evstream.ports import Catalogue, Ledger, Offload
from evstream.wire.receipt_signature import ReceiptSigner

_ACTIVE = (TaskState.RUNNING, TaskState.MERGING)

log = logging.getLogger(__name__)


class Finishing:
    """Moves tasks on when their books are complete.

    Whoever loses a nudge in a crash loses nothing: `nudge_all` names every task that may
    have been left half-way.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        ledger: Ledger,
        merging: Merging,
        chains: Chains,
        signer: ReceiptSigner,
        offload: Offload,
        turns: Turns,
        nudges: Nudges,
    ) -> None:
        self._merging = merging
        self._chains = chains
        self._turns = turns
        self._nudges = nudges
        self._catalogue = catalogue
        self._ledger = ledger
        self._signer = signer
        self._offload = offload

    def nudge(self, task: TaskId) -> None:
        """Say that something was accepted for a task."""
        self._nudges.nudge(task)

    async def wait(self) -> set[TaskId]:
        """Wait for nudges; return the tasks that they were for."""
        return await self._nudges.wait()

    async def nudge_all(self) -> None:
        """Nudge every active or chained task: what a crash left half-way is found so."""
        for task in await self._catalogue.tasks():
            if task.state in _ACTIVE or task.spec.takes:
                self.nudge(task.id)

    async def advance(self, task_id: TaskId) -> Task:
        """Move a task on as far as it goes; safe to call at any time, twice at once."""
        async with self._turns.of(task_id):
            task = await self._advance(task_id)
        await self._nudge_takers(task_id)
        return task

    async def follow(self, task_id: TaskId) -> None:
        """Have the tasks that take a task's outputs, and those behind them, follow it at once.

        Work of it was taken back: whoever is told so shall not find them ended.
        """
        for taker in await self._catalogue.takers(task_id):
            await self.advance(taker)
            await self.follow(taker)

    async def cancel(self, task_id: TaskId) -> Task:
        """Close what is not done, and end the task; what is committed stays committed.

        Raises
        ------
        ConflictError
            The task has ended.
        """
        async with self._turns.of(task_id):
            task = await self._catalogue.task(task_id)
            if task.state is TaskState.ABORTED:
                return task
            while True:
                # A paused one is cancelled like a running one.
                await self._catalogue.resume_task(task_id)
                for book in await books_of(self._ledger, task):
                    await self._ledger.cancel_book(book)
                # What was committed just before may have made merges of the next level.
                task = await self._advance(task_id, cancelled=True)
                if task.state.final:
                    break
        await self._nudge_takers(task_id)
        return task

    async def _nudge_takers(self, task_id: TaskId) -> None:
        for taker in await self._catalogue.takers(task_id):
            self.nudge(taker)

    async def _advance(self, task_id: TaskId, *, cancelled: bool = False) -> Task:
        task, taken = await self._catalogue.task(task_id), Taken()
        if task.spec.takes and task.state is not TaskState.PAUSED:
            task, taken = await self._chains.take(task)
        if task.state is TaskState.RUNNING:
            task = await self._end_processing(task, taken, cancelled=cancelled)
        if task.state is TaskState.MERGING:
            task = await self._end_merging(task, taken)
        return task

    async def _end_processing(self, task: Task, taken: Taken, *, cancelled: bool) -> Task:
        book, growing = process_book(task.id), taken.bound is not None
        # Whatever its parents may still give, it ends now.
        cancelled = cancelled and growing
        progress = await self._ledger.progress(book)
        # Asked again after a crash, it gives the same answer: nothing is committed since.
        stop = taken.refused or task.spec.limits.stop(progress, growing=growing)
        if (stop or cancelled) and not progress.complete:
            await self._ledger.cancel_book(book, stop or CANCELLED)
            progress = await self._ledger.progress(book)
        if task.spec.merges and not (progress.cancelled or cancelled):
            await self._merging.plan(task, taken.bound)
        if not progress.complete:
            return task
        if stop:
            return await self._end(task, TaskState.FAILED, stop)
        if progress.cancelled or cancelled:
            return await self._end(task, *await self._cancelled(task))
        if growing:
            return task
        if progress.entries and progress.withdrawn == progress.entries:
            return await self._end(task, TaskState.ABORTED, ALL_WITHDRAWN)
        if progress.entries and not progress.finished:
            return await self._end(task, TaskState.FAILED, "no event could be processed")
        if task.spec.merges:
            rules = task.spec.merge_rules()
            return await self._catalogue.start_merging(task.id, rules, [])
        return await self._end(task, *self._verdict(task.spec.tree, progress, taken))

    async def _cancelled(self, task: Task) -> tuple[TaskState, str]:
        """Return the end of a task that was cancelled, by somebody or by itself."""
        if task.spec.takes:
            for row in await self._ledger.closed(process_book(task.id)):
                if row.state is RangeState.CANCELLED and row.error != CANCELLED:
                    return TaskState.FAILED, row.error
        return TaskState.ABORTED, CANCELLED

    async def _end_merging(self, task: Task, taken: Taken) -> Task:
        planned = await self._merging.plan(task, taken.bound)
        progress = await self._ledger.progress(merge_book(task.id))
        if not progress.complete:
            return task
        if progress.cancelled:
            return await self._end(task, TaskState.ABORTED, "cancelled while merging")
        if progress.fatal:
            closed = await self._ledger.closed(merge_book(task.id))
            failed = [item for item in closed if not item.withdrawn]
            one = "the merge failed, its inputs are kept"
            what = one if len(failed) == 1 else f"{len(failed)} merges failed, inputs are kept"
            reason = f"{what}: {failed[0].error}"
            return await self._end(task, TaskState.FAILED, reason)
        if not planned:
            return task
        processed = await self._ledger.progress(process_book(task.id))
        return await self._end(task, *self._verdict(task.spec.tree, processed, taken))

    @staticmethod
    def _verdict(tree: str, progress: Progress, taken: Taken) -> tuple[TaskState, str]:
        if taken.failed:
            return TaskState.FAILED, taken.failed
        if not progress.entries:
            return TaskState.DONE, f"its input holds no events in {tree}"
        parts = [
            f"{counted(entries, 'event was', 'events were')} {what}"
            for entries, what in ((progress.fatal, "set aside"), (progress.withdrawn, "withdrawn"))
            if entries
        ]
        return (TaskState.FINISHED, ", ".join(parts)) if parts else (TaskState.DONE, "")

    async def _end(self, task: Task, state: TaskState, reason: str) -> Task:
        parents = await self._chains.parents(task)
        if parents is None:
            self.nudge(task.id)
            return task  # A parent was opened again since it was looked at.
        dataset = await self._catalogue.dataset(task.dataset)
        process = await self._book(process_book(task.id))
        secondary = [
            await self._catalogue.dataset(DatasetName(one.dataset)) for one in task.spec.secondary
        ]
        merges = await merges_of(self._catalogue, self._ledger, task)
        now = await self._catalogue.now()
        ended = Task(task.id, task.spec, state, task.request_id, task.created, now, reason)

        def issue() -> dict[str, Any]:
            receipt = build_receipt(
                ended, dataset, process, merges, now.isoformat(), secondary, parents
            )
            check_ledger(receipt)
            return self._signer.sign(receipt)

        # With a hundred thousand ranges it takes seconds; others must not wait so long.
        receipt = await self._offload(issue)
        self._merging.forget(task.id)
        self._chains.forget(task.id)
        final = await self._catalogue.end_task(task.id, state, reason, receipt)
        log.info("task %s ended", task.id, extra={"task": task.id, "state": final.state.value})
        return final

    async def _book(self, book: int) -> BookOfTask:
        return BookOfTask(
            await self._ledger.chunks(book),
            await self._ledger.commits(book),
            await self._ledger.closed(book),
            await self._ledger.progress(book),
        )
