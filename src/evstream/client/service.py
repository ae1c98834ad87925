"""The service as its clients see it: a method per route."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from evstream.client.access import Keys
from evstream.client.connection import Connection
from evstream.client.download import PIECE_BYTES, Check, Fits
from evstream.client.edges import Edges
from evstream.client.plans import Plans
from evstream.client.prepared import Prepared
from evstream.client.requests import Requests
from evstream.client.transfers import TRANSFERS_MAX, Transfers
from evstream.client.whiteboard import Whiteboard
from evstream.domain.accounts import Spent
from evstream.domain.errors import TransientError
from evstream.domain.names import LeaseId, WorkerId
from evstream.domain.states import Answer
from evstream.wire import messages as m
from evstream.wire import work_messages as w
from evstream.wire.event_messages import EventAnswer, EventQuestion
from evstream.wire.readiness import Health

T = TypeVar("T")

INSPECTION_S_MAX = 6 * 3600.0
"""Registering reads every file once; a large dataset far away takes hours."""


class Service:
    """A running evstream service.

    Parameters
    ----------
    connection : Connection
        How it is reached. `close` closes it.

    Attributes
    ----------
    plans : Plans
        Where products are had, and from where they come fast.
    edges : Edges
        What edges ask, and what is decided of them.
    prepared : Prepared
        What is prepared where.
    requests : Requests
        What is to be prepared.
    whiteboard : Whiteboard
        Notes on collections of events.
    keys : Keys
        API keys.
    transfers : Transfers
        Products on their way here.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.plans = Plans(connection)
        self.edges = Edges(connection)
        self.prepared = Prepared(connection)
        self.requests = Requests(connection)
        self.whiteboard = Whiteboard(connection)
        self.keys = Keys(connection)
        self.transfers = Transfers(connection)

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    async def health(self) -> Health:
        """Return the service's version and state."""
        return await self._connection.call("GET", "/v1/health", Health)

    async def add_dataset(self, dataset: m.NewDataset) -> m.DatasetView:
        """Register files under a name; the service inspects each."""
        return await self._connection.call(
            "POST", "/v1/datasets", m.DatasetView, dataset, answer_s_max=INSPECTION_S_MAX
        )

    async def dataset(self, name: str) -> m.DatasetView:
        """Return a registered dataset."""
        return await self._connection.call("GET", f"/v1/datasets/{name}", m.DatasetView)

    async def find_events(self, question: EventQuestion) -> EventAnswer:
        """Look events up in the service's event index."""
        return await self._connection.call("POST", "/v1/event-lookups", EventAnswer, question)

    async def datasets(self) -> list[m.DatasetLine]:
        """Return all datasets, a line each."""
        return await self._connection.pages("/v1/datasets", m.DatasetLine)

    async def submit(self, task: m.NewTask, request_id: str = "") -> m.TaskView:
        """Create a task; the same request id again gives the same task."""
        return await self._connection.call("POST", "/v1/tasks", m.TaskView, task, key=request_id)

    async def preview(self, task: m.NewTask) -> m.TaskPreview:
        """Tell what a task would come to; nothing is begun."""
        return await self._connection.call("POST", "/v1/task-previews", m.TaskPreview, task)

    async def tasks(self) -> list[m.TaskView]:
        """Return all tasks."""
        return await self._connection.pages("/v1/tasks", m.TaskView)

    async def task(self, task: int) -> m.TaskView:
        """Return a task with its progress."""
        return await self._connection.call("GET", f"/v1/tasks/{task}", m.TaskView)

    async def cancel(self, task: int) -> m.TaskView:
        """Cancel a task; what is committed stays."""
        return await self._connection.call("POST", f"/v1/tasks/{task}/cancel", m.TaskView)

    async def pause(self, task: int) -> m.TaskView:
        """Hand out nothing more of a task; what runs is accepted."""
        return await self._connection.call("POST", f"/v1/tasks/{task}/pause", m.TaskView)

    async def resume(self, task: int) -> m.TaskView:
        """Let a paused task go on."""
        return await self._connection.call("POST", f"/v1/tasks/{task}/resume", m.TaskView)

    async def schedule(
        self, task: int, *, queue: str | None = None, priority: int | None = None
    ) -> m.TaskView:
        """Give a task another place among others; what is left out stays."""
        wanted = m.ScheduleRequest(queue, priority)
        return await self._connection.call("POST", f"/v1/tasks/{task}/schedule", m.TaskView, wanted)

    async def archive(self, task: int) -> m.Archived:
        """Put the books of an ended task into the archive."""
        return await self._connection.call("POST", f"/v1/tasks/{task}/archive", m.Archived)

    async def retry(self, task: int, *, failed_only: bool = False) -> m.TaskView:
        """Send out again what was set aside, and what was cancelled."""
        wanted = m.RetryRequest(failed_only)
        return await self._connection.call("POST", f"/v1/tasks/{task}/retry", m.TaskView, wanted)

    async def reprocess(self, task: int, file: str) -> m.TaskView:
        """Do all of a file again; what was made from it is no part of the result."""
        path, wanted = f"/v1/tasks/{task}/reprocess", m.FileRequest(file)
        return await self._connection.call("POST", path, m.TaskView, wanted)

    async def withdraw(self, task: int, file: str) -> m.TaskView:
        """Take a file out of a task, with everything made from it."""
        path, wanted = f"/v1/tasks/{task}/withdraw", m.FileRequest(file)
        return await self._connection.call("POST", path, m.TaskView, wanted)

    async def entries(self, task: int) -> list[m.FileEntries]:
        """Return what became of the entries of each file of a task."""
        return await self._connection.pages(f"/v1/tasks/{task}/entries", m.FileEntries)

    async def failures(self, task: int) -> list[m.FailureView]:
        """Return the attempts of a task that came to nothing."""
        return await self._connection.pages(f"/v1/tasks/{task}/failures", m.FailureView)

    async def outputs(self, task: int) -> list[m.OutputView]:
        """Return a task's outputs: merged ones if there are, else those of its ranges."""
        return await self._connection.pages(f"/v1/tasks/{task}/outputs", m.OutputView)

    async def task_report(self, task: int) -> m.TaskReport:
        """Return what work on a task took."""
        return await self._connection.call("GET", f"/v1/tasks/{task}/report", m.TaskReport)

    async def spent(self) -> list[Spent]:
        """Return what the work of each submitter's tasks took."""
        return await self._connection.call("GET", "/v1/submitters", list[Spent])

    async def receipt(self, task: int) -> dict[str, Any]:
        """Return the signed receipt of an ended task."""
        return await self._connection.call("GET", f"/v1/tasks/{task}/receipt", dict[str, Any])

    async def claim(self, request: w.ClaimRequest, lease: LeaseId) -> w.ClaimAnswer:
        """Ask for work under a lease id of one's own choosing."""
        return await self._connection.call("POST", "/v1/claims", w.ClaimAnswer, request, key=lease)

    async def renew(self, lease: LeaseId, request: w.RenewRequest) -> w.HeldAnswer:
        """Keep a lease, and say which of its units have begun."""
        return await self._connection.call(
            "POST", f"/v1/leases/{lease}/renew", w.HeldAnswer, request
        )

    async def release(self, lease: LeaseId, worker: WorkerId) -> w.HeldAnswer:
        """Give back what a lease still holds."""
        return await self._connection.call(
            "POST",
            f"/v1/leases/{lease}/release",
            w.HeldAnswer,
            w.ReleaseRequest(worker),
        )

    async def report(self, reports: list[w.UnitReport]) -> list[Answer]:
        """Say what became of units; an answer each, in order."""
        answer = await self._connection.call(
            "POST", "/v1/reports", w.ReportAnswer, w.ReportRequest(reports)
        )
        return answer.answers

    async def forget_worker(self, worker: WorkerId) -> w.HeldAnswer:
        """Say that a worker is gone, so that its leases need not run out."""
        return await self._connection.call("POST", f"/v1/workers/{worker}/lost", w.HeldAnswer)

    async def describe_slice(self, request: m.NewSlice) -> m.DeliveryPlan:
        """Return the plan for a cut of a registered file."""
        return await self._connection.call("POST", "/v1/slices", m.DeliveryPlan, request)

    async def register_product(self, descriptor: dict[str, Any]) -> m.DeliveryPlan:
        """Make a descriptor known; returns its key and where the product is."""
        return await self._connection.call(
            "POST", "/v1/products", m.DeliveryPlan, m.NewProduct(descriptor)
        )

    async def fetch_product(
        self,
        plan: m.DeliveryPlan,
        path: Path,
        bytes_max: int | None = None,
        fits: Fits | None = None,
        rounds: int = TRANSFERS_MAX,
    ) -> Counter[str]:
        """Fetch a product into a file; see `Transfers.fetch`."""
        return await self.transfers.fetch(plan, path, bytes_max, fits, rounds)

    async def fetch_output(self, url: str, path: Path) -> str:
        """Fetch an object of the output store into a file; returns its sha256."""

        async def fetch() -> str:
            digest = hashlib.sha256()
            with path.open("wb") as file:
                async with self._connection.stream(url) as response:
                    async for piece in response.aiter_bytes(PIECE_BYTES):
                        digest.update(piece)
                        file.write(piece)
            return digest.hexdigest()

        return await self._transfer(fetch)

    async def _transfer(self, once: Callable[[], Awaitable[T]]) -> T:
        """Repeat a transfer that broke: by number, since however long it took, it got on."""
        for failures in range(TRANSFERS_MAX - 1):
            try:
                return await once()
            except TransientError as error:
                await self._connection.wait_before_retry(failures, error)
        return await once()

    async def upload_sandbox(self, path: Path, sha256: str) -> None:
        """Send a sandbox to where payloads of this digest have it from."""
        await self.upload(f"/v1/sandboxes/{sha256}", path)

    async def upload(self, url: str, path: Path) -> w.StoredAnswer:
        """Send a file to a signed URL of the output store and check what arrived.

        Raises
        ------
        TransientError
            The store has other bytes than were read here.
        """
        check = Check()

        async def pieces() -> AsyncIterator[bytes]:
            with path.open("rb") as file:
                while piece := file.read(PIECE_BYTES):
                    check.add(piece)
                    yield piece

        def content() -> AsyncIterator[bytes] | bytes:
            check.restart()
            if path.stat().st_size > PIECE_BYTES:
                return pieces()
            whole = path.read_bytes()
            check.add(whole)
            return whole

        stored = await self._connection.put(url, content, w.StoredAnswer)
        if (stored.size, stored.sha256) != (check.size, check.sha256):
            raise TransientError(f"{path.name} was stored with other content", url=url)
        return stored
