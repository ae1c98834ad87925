"""The service as its clients see it: a method per route."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from evstream.client.access import Keys
from evstream.client.connection import Connection
from evstream.client.edges import Edges
from evstream.client.plans import Plans
from evstream.client.prepared import Prepared
from evstream.client.requests import Requests
from evstream.client.whiteboard import Whiteboard
from evstream.domain.errors import (
    DescriptorUnknownError,
    EvstreamError,
    TooLargeError,
    TransientError,
    WrongBytesError,
)
from evstream.domain.names import LeaseId, WorkerId, without_secrets
from evstream.domain.states import Answer
from evstream.wire import messages as m
from evstream.wire import work_messages as w
from evstream.wire.edge_messages import Complaint
from evstream.wire.event_messages import EventAnswer, EventQuestion
from evstream.wire.readiness import Health

T = TypeVar("T")

Fits = Callable[[Path], bool]

PIECE_BYTES = 1 << 20
TRANSFERS_MAX = 8
"""How often a body is begun, or gone on with, before its break is told."""
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
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.plans = Plans(connection)
        self.edges = Edges(connection)
        self.prepared = Prepared(connection)
        self.requests = Requests(connection)
        self.whiteboard = Whiteboard(connection)
        self.keys = Keys(connection)

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
    ) -> int:
        """Fetch a product into a file; resumes where a connection broke.

        Parameters
        ----------
        fits : callable, optional
            Says whether a file is what the plan means, as far as that shows.

        Returns
        -------
        int
            Bytes received, repeats included.

        Raises
        ------
        EvstreamError
            No endpoint of the plan could give it.
        TooLargeError
            It has more bytes than may be; none of them was received.
        """
        download = _Download(path, bytes_max, fits)
        for failures in range(TRANSFERS_MAX):
            passing, definite = await self._round(download, plan)
            if passing is None and definite is None:
                return download.received
            # While one endpoint may come back, nothing is lost yet.
            error = passing or definite
            if passing is None or failures == TRANSFERS_MAX - 1:
                break
            await self._connection.wait_before_retry(failures, passing)
        assert error is not None
        raise error

    async def _round(
        self, download: _Download, plan: m.DeliveryPlan
    ) -> tuple[EvstreamError | None, EvstreamError | None]:
        """Go on with a transfer at each endpoint, until one has given all of it.

        Returns
        -------
        tuple
            The last error that may pass, and the last that will not; neither once all is there.
        """
        passing: EvstreamError | None = None
        definite: EvstreamError | None = None
        for url in plan.urls:
            try:
                await self._go_on(download, url, plan)
                download.check(plan)
            except WrongBytesError as failed:
                if failed.fields["mixed"]:
                    # Two edges disagree, and which of them is wrong does not show here.
                    passing = failed
                elif await self._are_right(failed):
                    return None, None
                else:
                    definite = failed
            except TooLargeError:
                raise
            except (DescriptorUnknownError, TransientError) as failed:
                passing = failed
            except EvstreamError as failed:
                # What one edge may not read, or finds damaged, another may have.
                definite = failed
            else:
                return None, None
        if not plan.urls:
            passing = TransientError("the plan names no endpoint", key=plan.key)
        return passing, definite

    async def _are_right(self, wrong: WrongBytesError) -> bool:
        """Tell the head of bytes that do not match; say whether it finds them right after all.

        They are, where it was told wrongly of them before: it makes them itself to see that.
        What names another product, or is not whole, is never.
        """
        url, etag, sha256 = (str(wrong.fields[name]) for name in ("url", "etag", "sha256"))
        with suppress(EvstreamError):
            is_other = bool(wrong.fields["is_other"])
            complaint = Complaint(url.partition("?")[0], etag, sha256, is_other)
            judged = await self.edges.complain(complaint)
            return judged.sha256 == sha256 and not is_other
        return False

    async def _go_on(self, download: _Download, url: str, plan: m.DeliveryPlan) -> None:
        try:
            await download.go_on(self._connection, url)
        except DescriptorUnknownError:
            await self.register_product(plan.descriptor)
            await download.go_on(self._connection, url)

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
        check = _Check()

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


class _Check:
    """Size and digest of bytes on their way."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.size = 0
        self._sha256 = hashlib.sha256()

    def add(self, piece: bytes) -> None:
        self.size += len(piece)
        self._sha256.update(piece)

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()


class _Download:
    """A file that grows over several connections, as long as the ETag stays."""

    def __init__(self, path: Path, bytes_max: int | None, fits: Fits | None) -> None:
        self._path = path
        self._bytes_max = bytes_max
        self._fits = fits
        self._etag = ""
        self._promised = ""
        self._check = _Check()
        self._senders: set[str] = set()
        self._by_service = False
        self._from = ""
        self.received = 0
        path.write_bytes(b"")

    async def go_on(self, connection: Connection, url: str) -> None:
        headers = {}
        if self._check.size and self._etag:
            headers = {"Range": f"bytes={self._check.size}-", "If-Range": self._etag}
        async with connection.stream(url, headers) as response:
            size = int(response.headers.get("Content-Length", 0))
            if self._bytes_max is not None and size > self._bytes_max:
                raise TooLargeError(f"the product has {size} bytes", bytes_max=self._bytes_max)
            if response.status_code != 206:
                self._check.restart()
                self._senders.clear()
                self._promised = ""
            # Who was asked, or whom that one has sent us to.
            self._senders.add(response.url.netloc.decode())
            self._from = str(response.url)
            self._by_service = connection.is_of_service(response)
            self._etag = response.headers.get("ETag", "")
            self._promised = sha256_promised(response.headers) or self._promised
            with self._path.open("r+b") as file:
                file.seek(self._check.size)
                file.truncate()
                async for piece in response.aiter_bytes(PIECE_BYTES):
                    file.write(piece)
                    self._check.add(piece)
                    self.received += len(piece)

    def check(self, plan: m.DeliveryPlan) -> None:
        """Compare what came with the digests that the sender and the plan promised, if they did.

        Whoever names no encoder promises what the plan says. What the service itself sends is
        newer than the plan, which tells what some edge has. Of what nobody else knows, at
        least what shows is looked at.

        Raises
        ------
        WrongBytesError
            It is not right; it is begun anew.
        """
        etag = self._etag.removeprefix("W/") or plan.etag
        mixed = len(self._senders) > 1
        newer = self._by_service and not mixed
        planned = plan.sha256 if etag == plan.etag and not newer else ""
        if not {self._promised, planned, self._check.sha256} <= {"", self._check.sha256}:
            raise self._wrong("sent other bytes than were promised", etag, mixed)
        if self._fits is not None and not self._fits(self._path):
            raise self._wrong("sent another product, or a part of it", etag, mixed, is_other=True)

    def _wrong(
        self, what: str, etag: str, mixed: bool, *, is_other: bool = False
    ) -> WrongBytesError:
        wrong = WrongBytesError(
            f"{without_secrets(self._from)} {what}",
            url=self._from,
            etag=etag,
            sha256=self._check.sha256,
            mixed=mixed,
            is_other=is_other,
        )
        self._check.restart()
        self._etag = self._promised = ""
        return wrong


def sha256_promised(headers: Mapping[str, str]) -> str:
    """Return the digest of ``Repr-Digest`` in hexadecimal digits (RFC 9530), or nothing."""
    found = re.search(r"sha-256=:([A-Za-z0-9+/]{43}=):", headers.get("Repr-Digest", ""))
    return base64.b64decode(found.group(1)).hex() if found else ""
