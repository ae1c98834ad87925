"""Messages of work: claims, what they bring, renewals and reports."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from evstream.domain.accounts import UnitAccount
from evstream.domain.ledger import Failure, LeasedInterval, RunningUnit, Success
from evstream.domain.payload import Payload
from evstream.domain.states import Answer
from evstream.domain.streams import Complete
from evstream.wire.messages import DeliveryPlan, Edge, Message

CLAIM_UNITS_MAX = 10_000
LEASE_S_MAX = 24 * 3600.0
REPORTS_MAX = 10_000
INLINE_BYTES_MAX = 16 << 10
"""Outputs of a unit that have no more together may come with its report, whatever its task."""
CUTS_MAX = 100

WORKER_NAME = r"[A-Za-z0-9._@:-]{1,200}"
Worker = Annotated[str, Meta(min_length=1, max_length=200, pattern=rf"^{WORKER_NAME}$")]


class UnitRef(Message, frozen=True):
    """Which unit of work: its place in the ledger, and the attempt."""

    book: int
    chunk: int
    entry_start: int
    entry_stop: int
    attempt: int


class OutputSlot(Message, frozen=True):
    """Where an output of one unit goes.

    Attributes
    ----------
    suffix : str
        Of the file that the payload writes.
    name : str
        In the output store; this attempt's alone.
    url : str
        Signed URL to PUT it to. The second file of a stream goes to this URL with ``&n=1``
        behind it, and so on; so does one that changed after it was sent.
    pattern : str
        Glob of the files in the unit's directory, if there may be several.
    optional : bool
        There may be none.
    complete : {"settled", "closed"}
        How one knows that a file is complete while the payload still runs.
    places : list of str
        Where a worker may write it to by itself, the best first, before it is sent to `url`:
        a URL that ends in `name` (``davs://``, ``root://``), to which it has a token of its own
        and where further files have names of their own, or a signed one, good for this name.
    """

    stream: str
    suffix: str
    name: str
    url: str
    pattern: str = ""
    optional: bool = False
    complete: Complete = "settled"
    places: list[str] = []


class SecondaryInput(Message, frozen=True):
    """Events of another dataset that a unit gets beside its own.

    Attributes
    ----------
    plans : list of DeliveryPlan
        Of the files that hold them, in order; one without entries where a unit gets no event.
    """

    name: str
    tree: str
    plans: list[DeliveryPlan]


class RangePart(Message, frozen=True):
    """One event range of a unit, and where its bytes are.

    Attributes
    ----------
    product_entries : (int, int) or None
        Entries of the source file that the plan's product holds, if other ranges share
        it; without them, it holds just this one's.
    secondary : list of SecondaryInput
        One for each that the task has.
    """

    entry_start: int
    entry_stop: int
    plan: DeliveryPlan
    product_entries: tuple[int, int] | None
    secondary: list[SecondaryInput] = []


class RangeUnit(Message, frozen=True, tag="range"):
    """Event ranges to process: one, or several that follow each other in one file.

    Attributes
    ----------
    parts : list of RangePart
        In order; together they are what `ref` names.
    outputs : list of OutputSlot
        One per stream of the task.
    log : str
        Name of the attempt's log in the output store.
    log_url : str
        Signed URL to PUT it to.
    sandbox_url : str
        Signed URL of the payload's sandbox, if it has one.
    bundle_bytes : int
        Outputs that have no more together are to come with the report: they are stored with
        others as one object.
    """

    ref: UnitRef
    task: int
    range_id: str
    lfn: str
    parts: list[RangePart]
    payload: Payload
    outputs: list[OutputSlot]
    log: str
    log_url: str
    sandbox_url: str = ""
    bundle_bytes: int = 0


class MergeInput(Message, frozen=True):
    """A committed output that goes into a merge.

    Attributes
    ----------
    made_from : str
        Its range, as people call it.
    """

    name: str
    url: str
    size: int
    sha256: str
    made_from: str


class MergeUnit(Message, frozen=True, tag="merge"):
    """Committed outputs to be joined, in order.

    Attributes
    ----------
    payload : Payload or None
        With the command that joins them; None for the join that is built in.
    sandbox_url : str
        Signed URL of the payload's sandbox, if it has one.
    """

    ref: UnitRef
    task: int
    range_id: str
    inputs: list[MergeInput]
    output: OutputSlot
    log: str
    log_url: str
    payload: Payload | None = None
    sandbox_url: str = ""


class ClaimRequest(Message, frozen=True):
    """POST /v1/claims. The Idempotency-Key is the lease's id.

    Attributes
    ----------
    cuts : list of str
        Formats that the worker can cut itself. Short units of such files come in
        products that hold several of them, and the worker cuts its units out of these.
    near : str or None
        An edge: work whose input it holds comes before all other.
    near_only : bool
        No other comes at all, but merges.
    site : str or None
        Where the worker is: edges are put in order for it.
    """

    worker: Worker
    units: Annotated[int, Meta(ge=1, le=CLAIM_UNITS_MAX)]
    lease_s: Annotated[float, Meta(gt=0, le=LEASE_S_MAX)] = 60.0
    task: int | None = None
    cuts: Annotated[list[str], Meta(max_length=CUTS_MAX)] = []
    near: Edge | None = None
    near_only: bool = False
    site: Edge | None = None


class ClaimAnswer(Message, frozen=True):
    """What was leased, with all that is needed to do it.

    Attributes
    ----------
    active_tasks : int
        Tasks that have not ended; 0 and no units means that there is nothing to wait
        for at the moment.
    poll_s : float
        When to ask again if there was nothing.
    """

    lease: str
    lease_s: float
    units: list[RangeUnit | MergeUnit]
    active_tasks: int
    poll_s: float


class RenewRequest(Message, frozen=True):
    """POST /v1/leases/ID/renew."""

    worker: Worker
    lease_s: Annotated[float, Meta(gt=0, le=LEASE_S_MAX)] = 60.0
    running: list[RunningUnit] = []


class HeldAnswer(Message, frozen=True):
    """What a lease still holds. What is missing has been taken back: stop working on it."""

    held: list[LeasedInterval]


class ReleaseRequest(Message, frozen=True):
    """POST /v1/leases/ID/release."""

    worker: Worker


class UnitReport(Message, frozen=True):
    """A worker's word on one unit: either a success or a failure.

    Attributes
    ----------
    contents : dict of str to bytes
        Outputs that were not stored before, by their names: small ones cost more as
        requests of their own than as part of this one.
    md5 : dict of str to str
        Hex digests of outputs that were written to the store past the service, by name: what
        buckets know of them.
    account : UnitAccount
        What the unit took beside its outcome; its bins are the service's to say.
    """

    lease: str
    worker: Worker
    ref: UnitRef
    success: Success | None = None
    failure: Failure | None = None
    contents: dict[str, bytes] = {}
    md5: dict[str, str] = {}
    account: UnitAccount = UnitAccount()


class ReportRequest(Message, frozen=True):
    """POST /v1/reports."""

    reports: Annotated[list[UnitReport], Meta(max_length=REPORTS_MAX)]


class ReportAnswer(Message, frozen=True):
    """An answer to each report, in order. Whatever it is, delete nothing you sent."""

    answers: list[Answer]


class StoredAnswer(Message, frozen=True):
    """What the store made of a PUT."""

    name: str
    size: int
    sha256: str
    adler32: str
