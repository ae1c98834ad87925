"""Pilots are kept, replaced with patience, and ended."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from evstream.client import Service
from evstream.daemons.keep_pilots import DEATHS_MAX, PilotKeeper, give_up_on
from evstream.domain.errors import ConfigError, TransientError
from evstream.domain.names import WorkerId
from evstream.domain.replacing import DELAY_S_MAX, SETTLED_S, Replacing
from evstream.ports import PilotOrder, PilotStage, PilotState
from evstream.testing.manual_clock import ManualClock
from evstream.wire.work_messages import HeldAnswer

RUNS = PilotState(PilotStage.RUNNING)
DIED = PilotState(PilotStage.ENDED, "signal 9", ok=False, said="it hurts")


class Names:
    """Ids in order."""

    def __init__(self) -> None:
        self._numbers = itertools.count()

    def new(self, prefix: str) -> str:
        return f"{prefix}{next(self._numbers):013d}"

    def jitter(self) -> float:
        return 0.5


@dataclass
class FakeEngine:
    """An engine whose pilots a test moves."""

    look_every_s: float = 1.0
    pilots: dict[WorkerId, PilotState] = field(default_factory=dict)
    orders: list[PilotOrder] = field(default_factory=list)
    asked: list[WorkerId] = field(default_factory=list)
    killed: list[WorkerId] = field(default_factory=list)
    deadly: bool = False
    deaf: bool = False
    refuses: set[WorkerId] = field(default_factory=set)

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def start(self, order: PilotOrder) -> None:
        self.orders.append(order)
        self.pilots[order.name] = DIED if self.deadly else RUNS

    async def look(self) -> dict[WorkerId, PilotState]:
        return dict(self.pilots)

    async def end(self, name: WorkerId, *, at_once: bool = False) -> None:
        (self.killed if at_once else self.asked).append(name)
        if name in self.refuses:
            raise TransientError("unknown job")
        if at_once or not self.deaf:
            self.pilots[name] = PilotState(PilotStage.ENDED, "signal 15", ok=False)

    async def forget(self, name: WorkerId) -> None:
        del self.pilots[name]


class FakeService:
    """Notes which workers were lost."""

    def __init__(self) -> None:
        self.lost: list[WorkerId] = []
        self.away = False

    async def forget_worker(self, worker: WorkerId) -> HeldAnswer:
        if self.away:
            raise TransientError("nobody answers")
        self.lost.append(worker)
        return HeldAnswer([])


class Stage:
    """A keeper with all that is around it."""

    def __init__(self, replacing: Replacing | None = None, **engine: Any) -> None:
        self.engine = FakeEngine(**engine)
        self.service = FakeService()
        self.clock = ManualClock()
        order = PilotOrder(WorkerId("anne"), ("evstream", "pilot", "--worker", "{name}"))
        on_end = give_up_on(replacing) if replacing else lambda _: None
        self.keeper = PilotKeeper(
            cast("Service", self.service),
            self.engine,
            self.clock,
            Names(),
            order,
            replacing,
            on_end,
        )

    def run(self, wanted: int, seconds: int = 0) -> int:
        """Step every second; returns how many pilots were started."""
        before = len(self.engine.orders)
        asyncio.run(self.keeper.step(wanted))
        for _ in range(seconds):
            self.clock.advance(1)
            asyncio.run(self.keeper.step(wanted))
        return len(self.engine.orders) - before


def test_each_has_a_name_of_its_own_and_is_told_it() -> None:
    stage = Stage()
    assert stage.run(3) == 3
    assert len(stage.engine.pilots) == 3
    assert all(order.command[-1] == order.name for order in stage.engine.orders)
    assert all(order.name.startswith("anne-") for order in stage.engine.orders)
    assert stage.run(3) == 0


def test_the_service_hears_of_one_that_died_and_another_comes() -> None:
    stage = Stage(Replacing())
    stage.run(2, int(SETTLED_S) + 1)
    victim = stage.engine.orders[0].name
    stage.engine.pilots[victim] = DIED
    assert stage.run(2) == 1
    assert stage.service.lost == [victim]
    assert victim not in stage.engine.pilots
    assert (stage.keeper.kept.started, stage.keeper.kept.failed) == (3, 1)


def test_where_all_die_at_once_submissions_become_rare_and_then_end() -> None:
    stage = Stage(Replacing(), deadly=True)
    # All together count once.
    assert stage.run(20, 1) == 20 + 1 - 1
    assert stage.run(20, 60) <= 6
    with pytest.raises(ConfigError, match=r"10 workers ended.*it hurts"):
        stage.run(20, 3600)
    assert len(stage.engine.orders) <= 20 + DEATHS_MAX


def test_one_that_lasts_lets_the_others_come() -> None:
    stage = Stage(Replacing(), deadly=True)
    stage.run(5, 20)
    stage.engine.deadly = False
    stage.run(5, int(DELAY_S_MAX))
    assert len(stage.engine.pilots) == 5


def test_one_goes_ahead_alone_and_the_others_wait_for_it() -> None:
    replacing = Replacing(delay_s=1.0)
    replacing.ended(100.0, started=99.0, ran_s=1.0)
    assert replacing.may_start(100.5, missing=7, young=0) == 0
    assert replacing.wait_s(100.5) == 0.5
    assert replacing.may_start(101.0, missing=7, young=0) == 1
    assert replacing.may_start(102.0, missing=6, young=1) == 0
    # What was started before says nothing of how it is now.
    replacing.lasted(started=50.0)
    assert replacing.may_start(103.0, missing=6, young=1) == 0
    replacing.lasted(started=101.0)
    assert replacing.may_start(112.0, missing=6, young=0) == 6


def test_waits_double_up_to_a_bound() -> None:
    replacing, now, waits = Replacing(delay_s=1.0), 0.0, []
    for _ in range(12):
        replacing.ended(now, started=now - 0.5 + 0.5 * (now == 0), ran_s=0.1)
        waits.append(replacing.wait_s(now))
        now += waits[-1] + 1
    assert waits[:4] == [1, 2, 4, 8]
    assert waits[-1] == DELAY_S_MAX


def test_without_work_they_are_asked_once_to_leave() -> None:
    stage = Stage(Replacing(), deaf=True)
    stage.run(2)
    stage.run(0, 3)
    assert sorted(stage.engine.asked) == sorted(stage.engine.pilots)
    stage.engine.deaf = False
    for name in stage.engine.pilots:
        stage.engine.pilots[name] = DIED
    stage.run(0)
    assert stage.keeper.kept.failed == 0
    # Nor does that delay those that come when there is work again.
    assert stage.run(2) == 2


def test_those_that_do_not_leave_in_time_are_made_to() -> None:
    stage = Stage(deaf=True)
    stage.run(2)
    names = list(stage.engine.pilots)
    asyncio.run(stage.keeper.end_all(5.0))
    assert stage.engine.asked == names
    assert stage.engine.killed == names
    assert stage.service.lost == names
    assert not stage.engine.pilots


def test_who_cannot_be_ended_holds_up_no_other_and_is_asked_again() -> None:
    stage = Stage()
    stage.run(3)
    first, *others = stage.engine.pilots
    stage.engine.refuses = {first}
    stage.run(0)
    assert stage.engine.asked == [first, *others]
    assert [name for name in stage.engine.pilots if stage.engine.pilots[name] == RUNS] == [first]
    stage.engine.refuses.clear()
    stage.run(0)
    assert stage.engine.asked == [first, *others, first]
    stage.run(2)
    stage.engine.refuses = set(list(stage.engine.pilots)[:1])
    with pytest.raises(TransientError, match="1 pilots could not be ended: anne-"):
        asyncio.run(stage.keeper.end_all(5.0))
    assert len(set(stage.engine.killed)) == 1


def test_pilots_of_a_keeper_before_are_ours() -> None:
    stage = Stage(Replacing())
    stage.engine.pilots[WorkerId("anne-old")] = RUNS
    assert stage.run(2) == 1


def test_a_service_that_is_away_is_told_later() -> None:
    stage = Stage()
    stage.run(1)
    (name,) = stage.engine.pilots
    stage.engine.pilots[name] = DIED
    stage.service.away = True
    with pytest.raises(TransientError):
        stage.run(1)
    stage.service.away = False
    assert stage.run(1) == 1
    assert stage.service.lost == [name]
