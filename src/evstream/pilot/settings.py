"""What can be set about a pilot, with bounds."""

from __future__ import annotations

from dataclasses import dataclass

from evstream.domain.errors import LimitError, RequestError
from evstream.wire.work_messages import CLAIM_UNITS_MAX, INLINE_BYTES_MAX, LEASE_S_MAX, REPORTS_MAX


@dataclass(frozen=True, slots=True)
class PilotSettings:
    """How a pilot works.

    Attributes
    ----------
    cores : int
        Payloads that run at once.
    lease_s : float
        A lease that is not renewed for so long is taken back. Fetches and uploads go
        on trying for as long, since later the work would be somebody else's anyway.
    heartbeat_s : float or None
        Pause between renewals; None for a quarter of `lease_s`.
    prefetch_bytes_max : int
        Disk for inputs, those being computed on included. One unit may always have
        its input, however large.
    fetches_max, uploads_max : int
        Transfers at once in each direction.
    staged_bytes_max : int
        Disk for outputs that are on their way to the store; payloads that would leave more
        wait, and with them the claims. One unit may always have its outputs, however large.
    store_s_max : float
        How long an output is tried to be written to one place before the next is tried; the
        last is the service, with which is as much patience as with a lease.
    ahead_s : float
        At least so much work is held, at the pace measured, so that short units are claimed
        in large batches. How much is held beyond that follows from what fetches take.
    units_ahead_max : int
        Units that are not computed yet, at most.
    idle_s_max : float
        Leave when no task has been active for so long. 0 is at once, `math.inf` never.
    away_s_max : float
        Leave when the service has not answered for so long.
    report_batch_max : int
        Units in one report.
    report_s : float
        How long a report waits for company, at most.
    bundle_s : float
        How long it waits if it brings nothing but outputs that are stored with others.
    inline_bytes_max : int
        Outputs of a unit that have no more together go with its report, and need no
        request of their own.
    drain_s : float
        How long running payloads may go on after `Pilot.stop`, at most.
    walltime_s : float
        How long the pilot may live: it claims nothing that would not end in time, and has
        left before.
    node_failures_max : int
        Leave when so many units in a row fail for the node's own fault: with a full or
        broken disk, or without a program that payloads need, it would go on failing.
    task : int or None
        Work for this task alone.
    near : str or None
        An edge: work whose input it holds is asked for first.
    near_only : bool
        No other work is asked for, but merges.
    site : str or None
        Where the pilot is: edges are put in order for it.
    """

    cores: int = 1
    lease_s: float = 60.0
    heartbeat_s: float | None = None
    prefetch_bytes_max: int = 2 << 30
    fetches_max: int = 32
    uploads_max: int = 8
    staged_bytes_max: int = 8 << 30
    store_s_max: float = 30.0
    ahead_s: float = 2.0
    units_ahead_max: int = 512
    idle_s_max: float = 60.0
    away_s_max: float = 600.0
    report_batch_max: int = 100
    report_s: float = 0.05
    bundle_s: float = 2.0
    inline_bytes_max: int = INLINE_BYTES_MAX
    drain_s: float = 5.0
    walltime_s: float = float("inf")
    node_failures_max: int = 8
    task: int | None = None
    near: str | None = None
    near_only: bool = False
    site: str | None = None

    def __post_init__(self) -> None:
        """Refuse numbers out of bounds, naming the field."""
        for name in ("cores", "fetches_max", "uploads_max", "node_failures_max"):
            self._check(name, 1, 4096)
        self._check("prefetch_bytes_max", 1, 1 << 60)
        self._check("staged_bytes_max", 1, 1 << 60)
        self._check("store_s_max", 0, float("inf"))
        self._check("units_ahead_max", 1, CLAIM_UNITS_MAX)
        self._check("report_batch_max", 1, REPORTS_MAX)
        self._check("inline_bytes_max", 0, INLINE_BYTES_MAX)
        self._check("lease_s", 0.001, LEASE_S_MAX)
        self._check("beat_s", 0.0001, self.lease_s)
        for name in ("ahead_s", "idle_s_max", "away_s_max", "report_s", "bundle_s", "drain_s"):
            self._check(name, 0, float("inf"))
        self._check("walltime_s", 0, float("inf"))
        if self.near_only and self.near is None:
            raise RequestError(
                "near_only is set, and no edge is named", hint="name it as near", field="near"
            )

    def _check(self, name: str, low: float, high: float) -> None:
        value = getattr(self, name)
        if not low <= value <= high:
            raise LimitError(
                f"{name} is {value}", hint=f"choose between {low} and {high}", field=name
            )

    @property
    def beat_s(self) -> float:
        """Seconds between renewals."""
        return self.lease_s / 4 if self.heartbeat_s is None else self.heartbeat_s
