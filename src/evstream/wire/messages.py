"""Messages of the HTTP API v1, as JSON.

Values that mean the same inside and outside are the domain's own dataclasses; only
what the wire adds (URLs, signatures, tagged unions) is defined here. Entries are
half-open intervals.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from evstream.domain.accounts import Account
from evstream.domain.dataset import Fingerprint
from evstream.domain.errors import RequestError
from evstream.domain.granularity import Granularity
from evstream.domain.ledger import Progress
from evstream.domain.names import TaskId
from evstream.domain.payload import Payload
from evstream.domain.products import EDGE_NAME
from evstream.domain.scheduling import Scheduling
from evstream.domain.secondary import Secondary
from evstream.domain.states import TaskState
from evstream.domain.streams import OutputStream
from evstream.domain.task import PARENTS_MAX, Limits, TakenBack, TakenOutputs, TaskSpec

T = TypeVar("T")

FILES_MAX = 100_000
STEPS_MAX = 10_000
"""Of one slice: its descriptor has to stay within what may be registered."""

# An escape is one only after an even number of backslashes.
_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")

Count = Annotated[int, Meta(ge=0)]
Name = Annotated[str, Meta(min_length=1, max_length=300)]
Edge = Annotated[str, Meta(pattern=f"^{EDGE_NAME}$")]


class Message(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of all messages: immutable, and an unknown field is an error."""


class Problem(Struct, frozen=True):
    """An RFC 9457 problem. ``code`` is stable; ``hint`` is the next step."""

    title: str
    status: int
    detail: str
    code: str
    hint: str = ""
    type: str = "about:blank"
    fields: dict[str, Any] = {}


class NewFile(Message, frozen=True):
    """A file to register, and what its owner knows of it (checked, not believed).

    Attributes
    ----------
    asked : dict of str to list of (int, int)
        Wanted intervals by tree; a tree that is not named is wanted whole.
    checksums : dict of str to str
        Of the whole file, by kind: adler32, md5, sha256. Compared where it is copied whole.
    """

    pfn: Annotated[str, Meta(min_length=1, max_length=4000)]
    lfn: str = ""
    uuid: str = ""
    size: Count | None = None
    digest: str = ""
    entries: dict[str, Count] = {}
    asked: dict[str, list[tuple[Count, Count]]] = {}
    checksums: dict[str, str] = {}


class NewDataset(Message, frozen=True):
    """POST /v1/datasets. An empty name stands for one derived from the content."""

    files: Annotated[list[NewFile], Meta(min_length=1, max_length=FILES_MAX)]
    name: Annotated[str, Meta(max_length=300)] = ""


class FileView(Message, frozen=True):
    """A registered file."""

    lfn: str
    guid: str
    pfns: list[str]
    fingerprint: Fingerprint
    trees: dict[str, int]
    format: str
    asked: dict[str, list[tuple[int, int]]] = {}
    checksums: dict[str, str] = {}


class DatasetView(Message, frozen=True):
    """GET /v1/datasets/NAME."""

    name: str
    files: list[FileView]


class DatasetLine(Message, frozen=True):
    """One of GET /v1/datasets."""

    name: str
    files: int
    size: int


class NewTask(Message, frozen=True):
    """POST /v1/tasks.

    Either a dataset or tasks whose outputs are taken. An empty tree stands for the only
    one, or for that of the first task; branches are globs, or names where outputs are
    taken; an empty list means all.
    """

    name: Name
    payload: Payload
    dataset: Annotated[str, Meta(max_length=300)] = ""
    takes: Annotated[tuple[TakenOutputs, ...], Meta(max_length=PARENTS_MAX)] = ()
    tree: str = ""
    branches: list[str] = []
    granularity: Granularity = Granularity()
    outputs: tuple[OutputStream, ...] = (OutputStream(),)
    limits: Limits = Limits()
    scheduling: Scheduling = Scheduling()
    secondary: tuple[Secondary, ...] = ()
    bundle_bytes: int = 0


class TaskPreview(Message, frozen=True):
    """POST /v1/task-previews: what a task would come to; nothing is begun.

    Attributes
    ----------
    ranges : int or None
        None where they go by time.
    bytes_to_read : int
        Of the sources, about.
    cpu_s, bytes_of_output : float, int or None
        To expect, by the last task that ran the same payload; None if there was none.
    warnings : list of str
        What looks wrong.
    """

    spec: TaskSpec
    files: int
    events: int
    ranges: int | None
    bytes_of_source: int
    bytes_to_read: int
    cpu_s: float | None
    bytes_of_output: int | None
    warnings: list[str]


class TaskReport(Message, frozen=True):
    """GET /v1/tasks/ID/report: what its work took.

    Attributes
    ----------
    ranges, merges : list of Account
        Sums by site and bin of time, of ranges and of joins.
    """

    id: int
    name: str
    state: TaskState
    created: datetime
    ranges: list[Account]
    merges: list[Account]


class TaskView(Message, frozen=True):
    """GET /v1/tasks/ID.

    Attributes
    ----------
    request_id : str
        The Idempotency-Key that made the task.
    dataset : str
        That it works on; a chained task has one of its own, which grows.
    takers : list of int
        Tasks that take its outputs.
    submitter : str
        Whose credentials made it; empty if that was not recorded.
    """

    id: int
    request_id: str
    dataset: str
    spec: TaskSpec
    state: TaskState
    created: datetime
    process: Progress
    ended: datetime | None = None
    reason: str = ""
    taken_back: TakenBack | None = None
    merge: Progress | None = None
    workers: int = 0
    takers: list[TaskId] = []
    submitter: str = ""


class RetryRequest(Message, frozen=True):
    """POST /v1/tasks/ID/retry.

    Attributes
    ----------
    failed_only : bool
        What somebody cancelled stays so.
    """

    failed_only: bool = False


class ScheduleRequest(Message, frozen=True):
    """POST /v1/tasks/ID/schedule: a task's place among others; what is left out stays."""

    queue: str | None = None
    priority: int | None = None


class Archived(Message, frozen=True):
    """Reply of POST /v1/tasks/ID/archive.

    Attributes
    ----------
    rows : int
        That left the database; 0 if they had left it before.
    """

    task: TaskId
    rows: int


class FileRequest(Message, frozen=True):
    """POST /v1/tasks/ID/reprocess and /withdraw: a file by its LFN or one of its PFNs."""

    file: Annotated[str, Meta(min_length=1, max_length=4000)]


class FileEntries(Message, frozen=True):
    """What became of the entries of one file of a task; half-open intervals in order.

    Attributes
    ----------
    wanted : list of (int, int)
        All that the task is to do; what is in none of the others is not done yet.
    set_aside : list of (int, int, str)
        With the error.
    """

    lfn: str
    wanted: list[tuple[int, int]]
    committed: list[tuple[int, int]] = []
    set_aside: list[tuple[int, int, str]] = []
    cancelled: list[tuple[int, int]] = []
    withdrawn: list[tuple[int, int]] = []


class FailureView(Message, frozen=True):
    """One attempt that came to nothing, as people want to see it.

    Attributes
    ----------
    merge : bool
        It was a merge; `lfn` is then the stream that was merged, its one entry the merge.
    """

    lfn: str
    entry_start: int
    entry_stop: int
    attempt: int
    worker: str
    kind: str
    error: str
    log: str = ""
    merge: bool = False


class OutputView(Message, frozen=True):
    """A committed output with a signed URL to get it.

    Attributes
    ----------
    covers : list of (lfn, entry_start, entry_stop)
        The entries that it was made from, in order.
    """

    stream: str
    name: str
    size: int
    sha256: str
    adler32: str
    entries: dict[str, int]
    covers: list[tuple[str, int, int]]
    merged: bool
    url: str


class DeliveryPlan(Message, frozen=True):
    """Where a product's bytes are: signed URLs, best first; ``/…`` is on this service.

    Attributes
    ----------
    etag, sha256 : str
        Of the bytes that the head knows of, to be compared with bytes of that ETag; empty if
        it knows of none. Another encoder's have another ETag.
    held : list of int
        Which of the URLs lead to somebody who has it already, as far as the head knows; by
        their places.
    """

    key: str
    descriptor: dict[str, Any]
    urls: list[str]
    etag: str = ""
    sha256: str = ""
    held: list[int] = []


class NewProduct(Message, frozen=True):
    """POST /v1/products: a descriptor."""

    descriptor: dict[str, Any]


class NewSlice(Message, frozen=True):
    """POST /v1/slices: describe a cut of a registered file; answered with a plan.

    ``entry_stop`` of -1 stands for the end of the tree; ``steps`` are half-open intervals of
    entries instead.
    """

    dataset: Name
    lfn: str = ""
    tree: str = ""
    entry_start: Count = 0
    entry_stop: int = -1
    branches: list[str] = []
    steps: Annotated[list[tuple[Count, Count]], Meta(max_length=STEPS_MAX)] = []


def encode(message: Any) -> bytes:
    """Return a message as JSON."""
    return msgspec.json.encode(message)


def decode(body: bytes | str, kind: type[T]) -> T:
    """Read a message; U+FFFD stands for NUL characters in its texts.

    Raises
    ------
    RequestError
        It does not fit; the field and the reason are named.
    """
    try:
        text = body.encode() if isinstance(body, str) else body
        if rb"\u0000" in text:
            # Not every database can hold them, and no name or message needs one.
            text = _NUL.sub(rb"\1\\ufffd", text)
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise RequestError(
            f"{kind.__name__}: {error}", hint="see /v1 in the API reference"
        ) from error
