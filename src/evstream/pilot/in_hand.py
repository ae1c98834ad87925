"""What the pilot has in hand: leases, their units, and how far each has come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum, auto

from evstream.domain.names import LeaseId
from evstream.pilot.times import UnitTimes
from evstream.wire.work_messages import MergeUnit, RangeUnit

Work = RangeUnit | MergeUnit


class Stage(Enum):
    """How far a unit has come.

    ::

        AHEAD ──a core is free──▶ RUNNING ──computed──▶ LEAVING ──stored──▶ REPORTED
          └───────────────failed──────────┴───────────────┴────────────────────▲

    A unit is forgotten when its report is answered, or when it is given up.
    """

    AHEAD = auto()
    RUNNING = auto()
    LEAVING = auto()
    REPORTED = auto()


@dataclass(slots=True, eq=False)
class Unit:
    """A unit of work, from claim to answer."""

    work: Work
    lease: LeaseId
    stage: Stage = Stage.AHEAD
    cpu_s: float = 0.0
    running_since: float = 0.0
    claimed: float = 0.0
    times: UnitTimes = field(default_factory=UnitTimes)
    task: asyncio.Task[None] | None = None

    @property
    def several(self) -> bool:
        """Whether it is several ranges, of which the last may be left undone."""
        return isinstance(self.work, RangeUnit) and len(self.work.parts) > 1


class InHand:
    """Keeps every unit until the service has answered for it.

    One thread uses it; whoever waits for a change is woken by each.

    Parameters
    ----------
    now : callable
        Tells seconds since some moment.

    Attributes
    ----------
    untold : set of Unit
        What runs without the service having been told.
    leaving : bool
        Nothing more is claimed, and what can be left undone is.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self._running: dict[Unit, None] = {}
        self._leases: dict[LeaseId, dict[Unit, None]] = {}
        self._count = dict.fromkeys(Stage, 0)
        self._changed = asyncio.Event()
        self.untold: set[Unit] = set()
        self.leaving = False

    def expect(self, lease: LeaseId) -> None:
        """Note a lease that is being asked for: its answer may be lost, its work held."""
        self._leases[lease] = {}

    def take(self, lease: LeaseId, works: Iterable[Work], plan_s: float = 0.0) -> list[Unit]:
        """Note what a claim gave, and how long it took; a lease without units is forgotten."""
        now = self.now()
        units = [Unit(w, lease, claimed=now, times=UnitTimes(plan_s)) for w in works]
        if units:
            self._leases[lease] = dict.fromkeys(units)
            self._count[Stage.AHEAD] += len(units)
            self._changed.set()
        else:
            self._leases.pop(lease, None)
        return units

    def move(self, unit: Unit, stage: Stage) -> None:
        """Note how far a unit has come; one that was given up stays so."""
        if not self.holds(unit):
            return
        self._count[unit.stage] -= 1
        unit.stage = stage
        self._count[stage] += 1
        if stage is Stage.RUNNING:
            self.untold.add(unit)
            unit.running_since = self.now()
            self._running[unit] = None
        else:
            self.untold.discard(unit)
            self._running.pop(unit, None)
        self._changed.set()

    def holds(self, unit: Unit) -> bool:
        """Whether a unit has neither been answered for nor given up."""
        return unit in self._leases.get(unit.lease, ())

    def drop(self, unit: Unit) -> None:
        """Forget a unit; with its last unit goes the lease."""
        units = self._leases.get(unit.lease, {})
        if unit not in units:
            return
        del units[unit]
        self._count[unit.stage] -= 1
        self.untold.discard(unit)
        self._running.pop(unit, None)
        if not units:
            del self._leases[unit.lease]
        self._changed.set()

    def units(self, lease: LeaseId | None = None) -> list[Unit]:
        """Return the units of one lease, or all, in the order they were claimed."""
        if lease is not None:
            return list(self._leases.get(lease, ()))
        return [unit for units in self._leases.values() for unit in units]

    def leases(self) -> list[LeaseId]:
        """Return all leases, those that are only expected included."""
        return list(self._leases)

    def running_since(self) -> list[float]:
        """Return since when each unit runs that runs now."""
        return [unit.running_since for unit in self._running]

    @property
    def is_expecting(self) -> bool:
        """Whether more is being asked for."""
        return not all(self._leases.values())

    @property
    def is_risky(self) -> bool:
        """Whether a unit runs that was tried before: it may be what kills its workers."""
        return any(unit.work.ref.attempt > 1 for unit in self._running)

    @property
    def to_compute(self) -> int:
        """Number of units that are not computed yet."""
        return self._count[Stage.AHEAD] + self._count[Stage.RUNNING]

    def __len__(self) -> int:
        """Return the number of units."""
        return sum(self._count.values())

    async def until(self, holds_true: Callable[[], bool]) -> None:
        """Wait until a condition on what is in hand holds."""
        while not holds_true():
            self._changed.clear()
            await self._changed.wait()
