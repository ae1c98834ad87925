"""Messages about requests to prepare, and of the edges that work on them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta

from evstream.domain.granularity import Granularity
from evstream.domain.ledger import Progress
from evstream.domain.preparation import LIFE_S_DEFAULT, LIFE_S_MAX, Precaching
from evstream.domain.scheduling import Scheduling
from evstream.domain.states import TaskState
from evstream.wire.messages import FILES_MAX, Count, Message
from evstream.wire.work_messages import LEASE_S_MAX, UnitRef

CLAIM_UNITS_MAX = 1_000
WAIT_S_MAX = 60.0


class NewRequest(Message, frozen=True):
    """POST /v1/requests: have edges make products ahead.

    Either a dataset, or a task whose ranges are to be prepared; then its dataset, tree,
    branches and granularity are the task's own.

    Attributes
    ----------
    files : list of str
        Names of files, or globs; none for all.
    entries : dict of str to list of (int, int)
        Wanted intervals by file; a file that is not named is wanted whole.
    events_max : int or None
        The first so many events of what is wanted so.
    site : str
        Only edges of this site do it; empty for any.
    life_s : float
        For so long each product is kept at least, once it is made.
    user : str
        For whom; makers are shared fairly among users.
    precache : {'no', 'first', 'only'}
        Whether each edge copies the files that it works on whole, and cuts products then.
    """

    dataset: Annotated[str, Meta(max_length=300)] = ""
    task: Count | None = None
    name: Annotated[str, Meta(max_length=300)] = ""
    tree: str = ""
    branches: list[str] = []
    granularity: Granularity = Granularity()
    files: Annotated[list[str], Meta(max_length=FILES_MAX)] = []
    entries: dict[str, list[tuple[Count, Count]]] = {}
    events_max: Annotated[int, Meta(ge=1)] | None = None
    site: Annotated[str, Meta(max_length=200)] = ""
    scheduling: Scheduling = Scheduling()
    life_s: Annotated[float, Meta(gt=0, le=LIFE_S_MAX)] = LIFE_S_DEFAULT
    user: Annotated[str, Meta(max_length=200)] = ""
    precache: Precaching = "no"


class RequestView(Message, frozen=True):
    """A request and how far it has come.

    Attributes
    ----------
    id : int
        Requests are tasks of their own kind, and numbered with them.
    events_per_product : int
    progress : Progress
        Of its events: finished means made.
    ready : float
        The part of its events whose products were made.
    edges : int
        That work on it now.
    """

    id: int
    request_id: str
    name: str
    dataset: str
    tree: str
    branches: list[str] | None
    events_per_product: int
    scheduling: Scheduling
    site: str
    life_s: float
    user: str
    task: int | None
    state: TaskState
    created: datetime
    progress: Progress
    ready: float
    ended: datetime | None = None
    reason: str = ""
    edges: int = 0
    precache: Precaching = "no"


class WaitQuery(Message, frozen=True):
    """GET /v1/requests/ID: the answer may wait until so much of it is ready, or it has ended."""

    wait_s: Annotated[float, Meta(ge=0, le=WAIT_S_MAX)] = 0.0
    ready: Annotated[float, Meta(ge=0, le=1)] = 1.0


class EdgeClaim(Message, frozen=True):
    """POST /v1/edges/NAME/claims: an edge has makers to spare. The Idempotency-Key is the lease."""

    units: Annotated[int, Meta(ge=1, le=CLAIM_UNITS_MAX)]
    lease_s: Annotated[float, Meta(gt=0, le=LEASE_S_MAX)] = 60.0


class PrepareUnit(Message, frozen=True):
    """A product to be made.

    Attributes
    ----------
    precache : bool
        The file is copied whole first. Where the copy is the product, the descriptor says so.
    """

    ref: UnitRef
    request: int
    descriptor: dict[str, Any]
    life_s: float
    user: str = ""
    priority: int = 0
    precache: bool = False


class EdgeClaimAnswer(Message, frozen=True):
    """What an edge is to prepare; ``poll_s`` says when to ask again if that is nothing."""

    lease: str
    lease_s: float
    worker: str
    units: list[PrepareUnit]
    poll_s: float
