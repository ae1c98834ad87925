"""Reports, heartbeats and leaving: nothing is lost, and nothing is done in vain."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from evstream.domain.errors import ConflictError, RequestError, TransientError
from evstream.domain.states import Answer
from evstream.pilot import Pilot, PilotSummary, reporter
from evstream.pilot.leaving import RELEASE_S_MAX
from evstream.ports import Notice, PayloadCall
from evstream.testing.virtual_time import VirtualClock, run_virtual
from evstream.wire import work_messages as w
from tests.unit.pilot.fakes import (
    FakeRunner,
    FakeService,
    make_pilot,
    number,
    range_units,
    run_pilot,
)


async def sleep(seconds: float) -> None:
    """Wait in virtual time."""
    await VirtualClock().sleep(seconds)


def while_running(
    pilot: Callable[[], Pilot], meanwhile: Callable[[Pilot], Awaitable[None]]
) -> PilotSummary:
    """Run a pilot, and something beside it."""

    async def main() -> PilotSummary:
        one = pilot()
        running = asyncio.create_task(one.run())
        await meanwhile(one)
        return await running

    return run_virtual(main)


def virtual_s(run: Callable[[], Awaitable[object]]) -> float:
    """Return how long something takes, in virtual time."""

    async def main() -> float:
        clock = VirtualClock()
        began = clock.monotonic()
        await run()
        return clock.monotonic() - began

    return run_virtual(main)


def test_reports_wait_for_company_but_not_for_long(tmp_path: Path) -> None:
    service = FakeService(range_units(1000))
    runner = FakeRunner(wall_s=0.001)
    run_virtual(lambda: run_pilot(service, runner, tmp_path, report_batch_max=20))
    assert max(service.batches) == 20
    assert len(service.batches) < 100
    slow = FakeService(range_units(3))
    run_virtual(lambda: run_pilot(slow, FakeRunner(wall_s=5.0), tmp_path))
    assert slow.batches == [1, 1, 1]


def test_what_becomes_one_object_waits_for_company(tmp_path: Path) -> None:
    units = [msgspec.structs.replace(unit, bundle_bytes=99) for unit in range_units(30)]

    def payload(call: PayloadCall) -> None:
        Path(call.values["output"]).write_text("small")

    service = FakeService(units)
    run_virtual(lambda: run_pilot(service, FakeRunner(payload, wall_s=0.5), tmp_path, cores=2))
    # Two a second and core, and none waits at the end.
    assert service.batches[0] in (8, 9, 10)
    assert sum(service.batches) == 30
    single = FakeService(units[:1])
    began = virtual_s(lambda: run_pilot(single, FakeRunner(payload), tmp_path))
    assert began < 1.0


def test_what_a_full_request_leaves_waits_for_company_too(tmp_path: Path) -> None:
    units = [msgspec.structs.replace(unit, bundle_bytes=99) for unit in range_units(60)]
    service = FakeService(units)
    answered = service.report

    async def report(reports: list[w.UnitReport]) -> list[Answer]:
        await sleep(0.1)  # More is done meanwhile.
        return await answered(reports)

    service.report = report  # type: ignore[method-assign]
    runner = FakeRunner(wall_s=0.02)
    run_virtual(lambda: run_pilot(service, runner, tmp_path, report_batch_max=20))
    assert service.batches == [20, 20, 20]


def test_reports_do_not_wait_where_what_was_tried_before_runs(tmp_path: Path) -> None:
    first, second, third = (
        msgspec.structs.replace(unit, bundle_bytes=99) for unit in range_units(3)
    )
    # It may kill its worker, and what is not reported goes with it.
    second = msgspec.structs.replace(second, ref=msgspec.structs.replace(second.ref, attempt=2))
    service = FakeService([first, second, third])
    runner = FakeRunner(wall_s=0.1)
    run_virtual(lambda: run_pilot(service, runner, tmp_path))
    assert service.batches == [1, 2]


def test_reports_of_one_request_bring_no_more_than_it_may_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporter, "CONTENTS_BYTES_MAX", 25)
    service = FakeService(range_units(40))

    def payload(call: PayloadCall) -> None:
        Path(call.values["output"]).write_text("ten bytes.")

    runner = FakeRunner(payload, wall_s=0.001)
    run_virtual(lambda: run_pilot(service, runner, tmp_path, inline_bytes_max=10))
    assert max(service.batches) == 2
    assert sorted(number(report) for report in service.reports) == list(range(40))


def test_service_away_while_reporting(tmp_path: Path) -> None:
    service, runner = FakeService(range_units(6)), FakeRunner(wall_s=1.0)

    async def outage(_: Pilot) -> None:
        await sleep(1.5)
        service.away = True
        await sleep(30.0)
        assert len(runner.calls) > 1
        service.away = False

    summary = while_running(lambda: make_pilot(service, runner, tmp_path), outage)
    assert summary.units_done == 6
    assert sorted(number(report) for report in service.reports) == list(range(6))


def test_lost_answer_to_a_report_is_asked_for_again(tmp_path: Path) -> None:
    service = FakeService(range_units(1))
    answered = service.report

    async def report(reports: list[w.UnitReport]) -> list[Answer]:
        answers = await answered(reports)
        if len(service.answers[0]) == 1:
            raise TransientError("the answer was lost")
        return answers

    service.report = report  # type: ignore[method-assign]
    run_virtual(lambda: run_pilot(service, FakeRunner(), tmp_path))
    assert len(service.answers[0]) == 2


def test_superseded_reports_are_dropped(tmp_path: Path) -> None:
    service, runner = FakeService(range_units(2)), FakeRunner(wall_s=1.0)

    async def expire(_: Pilot) -> None:
        await sleep(0.5)
        for units in service.leases.values():
            units.clear()

    summary = while_running(lambda: make_pilot(service, runner, tmp_path, cores=2), expire)
    assert (summary.units_done, summary.units_superseded) == (0, 2)
    assert list(service.answers.values()) == [[Answer.SUPERSEDED]] * 2


def test_refused_report_does_not_take_its_batch_with_it(tmp_path: Path) -> None:
    units = range_units(4)
    service = FakeService(units)
    answered = service.report

    async def report(reports: list[w.UnitReport]) -> list[Answer]:
        if any(number(one) == 2 for one in reports):
            service.lose(units[2])
            raise RequestError("unit 2 is malformed")
        return await answered(reports)

    service.report = report  # type: ignore[method-assign]
    runner = FakeRunner()
    summary = run_virtual(lambda: run_pilot(service, runner, tmp_path, cores=4, report_s=1.0))
    assert sorted(number(one) for one in service.reports) == [0, 1, 3]
    assert (summary.units_done, summary.units_superseded) == (3, 1)


def test_heartbeats_say_what_runs(tmp_path: Path) -> None:
    service, runner = FakeService(range_units(4)), FakeRunner(wall_s=10.0)
    run_virtual(lambda: run_pilot(service, runner, tmp_path, lease_s=12.0))
    assert len(service.renewals) >= 10
    assert {renewal.lease_s for renewal in service.renewals} == {12.0}
    begun = [unit for renewal in service.renewals for unit in renewal.running]
    assert {unit.entry_start for unit in begun} == {0, 10, 20, 30}
    assert {unit.cpu_s for unit in begun} <= {0.25, 0.5}  # while it runs, and once it has


def test_what_begins_is_told_at_once(tmp_path: Path) -> None:
    service, runner = FakeService(range_units(3)), FakeRunner(wall_s=100.0)
    told: list[list[int]] = []

    async def look(_: Pilot) -> None:
        await sleep(1.0)
        told.append([unit.entry_start for one in service.renewals for unit in one.running])

    while_running(lambda: make_pilot(service, runner, tmp_path, cores=2, lease_s=60.0), look)
    assert told == [[0, 10]]


def test_what_failed_before_is_told_before_it_begins(tmp_path: Path) -> None:
    units = range_units(4)
    units[2] = msgspec.structs.replace(
        units[2], ref=msgspec.structs.replace(units[2].ref, attempt=2)
    )
    service = FakeService(units)
    seen: list[tuple[set[int], set[int]]] = []

    async def look(which: int) -> None:
        if which == 2:
            told = {unit.entry_start for one in service.renewals for unit in one.running}
            seen.append((told, {number(one) for one in service.reports}))

    runner = FakeRunner(before=look)
    run_virtual(lambda: run_pilot(service, runner, tmp_path, lease_s=600.0))
    ((told, reported),) = seen
    assert 20 in told
    assert reported == {0, 1}


def test_a_flood_of_short_units_is_not_told_one_by_one(tmp_path: Path) -> None:
    service, runner = FakeService(range_units(400)), FakeRunner(wall_s=0.01)
    run_virtual(lambda: run_pilot(service, runner, tmp_path, lease_s=600.0))
    assert 1 <= len(service.renewals) <= 60  # 4 s of work


def test_lost_unit_abandons_its_payload_and_no_other(tmp_path: Path) -> None:
    units = range_units(4)
    service, runner = FakeService(units), FakeRunner(wall_s=100.0)

    async def lose(_: Pilot) -> None:
        await sleep(5.0)
        service.lose(units[0])
        await sleep(11.0)
        assert runner.cancelled == [0]
        assert not (tmp_path / "scratch" / units[0].range_id).exists()
        assert runner.running == 1

    summary = while_running(lambda: make_pilot(service, runner, tmp_path, lease_s=40.0), lose)
    assert (summary.units_done, summary.units_abandoned) == (3, 1)


def test_lease_that_is_gone_abandons_all_its_units(tmp_path: Path) -> None:
    service, runner = FakeService(range_units(6)), FakeRunner(wall_s=100.0)

    async def lose(_: Pilot) -> None:
        await sleep(5.0)
        (lease,) = service.leases
        service.leases[lease].clear()
        service.errors[f"renew {lease}"] = ConflictError("another worker's")

    summary = while_running(lambda: make_pilot(service, runner, tmp_path, lease_s=40.0), lose)
    assert runner.cancelled == [0]
    assert (summary.units_done, summary.units_abandoned) == (2, 4)


def test_lost_lease_drops_what_was_fetched_ahead(tmp_path: Path) -> None:
    units = range_units(2)
    service, runner = FakeService(units), FakeRunner(wall_s=30.0)

    async def lose(_: Pilot) -> None:
        await sleep(1.0)
        service.lose(units[1])

    summary = while_running(lambda: make_pilot(service, runner, tmp_path, lease_s=20.0), lose)
    assert [int(call.values["entry_start"]) for call in runner.calls] == [0]
    assert (summary.units_done, summary.units_abandoned) == (1, 1)


def test_hanging_renewal_does_not_hold_up_the_others(tmp_path: Path) -> None:
    service, runner = FakeService(range_units(6)), FakeRunner(wall_s=50.0)
    renew = service.renew
    hanging: list[str] = []

    async def hang(lease: Any, request: w.RenewRequest) -> w.HeldAnswer:
        if not hanging:
            hanging.append(lease)
        if lease == hanging[0]:
            await sleep(10_000.0)
        return await renew(lease, request)

    service.renew = hang  # type: ignore[method-assign]
    run_virtual(lambda: run_pilot(service, runner, tmp_path, lease_s=20.0))
    assert len(service.renewals) > 10


def test_lost_answer_to_a_renewal_is_made_up_for_while_the_lease_lives(tmp_path: Path) -> None:
    service, runner = FakeService(range_units(1)), FakeRunner(wall_s=100.0)
    renew, calls = service.renew, 0
    renewed = [0.0]

    async def hang(lease: Any, request: w.RenewRequest) -> w.HeldAnswer:
        nonlocal calls
        calls += 1
        if calls % 2:
            await sleep(10_000.0)
        renewed.append(VirtualClock().monotonic())
        return await renew(lease, request)

    service.renew = hang  # type: ignore[method-assign]
    run_virtual(lambda: run_pilot(service, runner, tmp_path, lease_s=20.0))
    assert max(b - a for a, b in pairwise(renewed)) < 20.0


def test_stop_gives_back_what_has_not_begun_and_finishes_what_has(tmp_path: Path) -> None:
    service, runner = FakeService(range_units(50)), FakeRunner(wall_s=10.0)

    async def stop(pilot: Pilot) -> None:
        await sleep(5.0)
        pilot.stop()

    summary = while_running(lambda: make_pilot(service, runner, tmp_path, cores=2), stop)
    assert sorted(number(report) for report in service.reports) == [0, 1]
    assert sorted(number(unit) for unit in service.released) == [2, 3, 4]
    assert summary.units_abandoned == 3
    assert summary.wall_s == pytest.approx(10.0, abs=0.1)
    assert not any(service.leases.values())


def test_stop_abandons_what_takes_too_long(tmp_path: Path) -> None:
    service, runner = FakeService(range_units(50)), FakeRunner(wall_s=1000.0)

    async def stop(pilot: Pilot) -> None:
        await sleep(5.0)
        pilot.stop()

    summary = while_running(lambda: make_pilot(service, runner, tmp_path, drain_s=30.0), stop)
    assert runner.cancelled == [0]
    assert service.reports == []
    assert sorted(number(unit) for unit in service.released) == [0, 1, 2, 3]
    assert summary.wall_s == pytest.approx(35.0)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_stop_again_ends_what_runs_at_once(tmp_path: Path) -> None:
    service, runner = FakeService(range_units(50)), FakeRunner(wall_s=1000.0)

    async def stop(pilot: Pilot) -> None:
        await sleep(5.0)
        pilot.stop()
        await sleep(2.0)
        pilot.stop(0.0)

    summary = while_running(lambda: make_pilot(service, runner, tmp_path, drain_s=30.0), stop)
    assert sorted(number(unit) for unit in service.released) == [0, 1, 2, 3]
    assert summary.wall_s == pytest.approx(7.0)


def test_nothing_is_claimed_that_would_not_end_in_time(tmp_path: Path) -> None:
    service, runner = FakeService(range_units(50)), FakeRunner(wall_s=10.0)
    settings = {"walltime_s": 60.0, "drain_s": 3.0, "idle_s_max": 1000.0}
    summary = run_virtual(lambda: run_pilot(service, runner, tmp_path, **settings))
    # 60 s without the 8 that leaving may take: the sixth would end at 60 s.
    assert sorted(number(report) for report in service.reports) == [0, 1, 2, 3, 4]
    assert service.released == []
    assert summary.wall_s == pytest.approx(50.0, abs=1.0)


def test_a_pilot_leaves_before_its_time_is_over(tmp_path: Path) -> None:
    service, runner = FakeService(range_units(50)), FakeRunner(wall_s=1000.0)
    settings = {"walltime_s": 60.0, "drain_s": 5.0}
    summary = run_virtual(lambda: run_pilot(service, runner, tmp_path, **settings))
    assert sorted(number(unit) for unit in service.released) == [0, 1, 2, 3]
    assert summary.wall_s == pytest.approx(55.0)


class Told:
    """Says that this node is left from a time on."""

    def __init__(self, at_s: float, notice: Notice) -> None:
        self._at_s = at_s
        self._notice = notice

    async def look(self) -> Notice | None:
        now = VirtualClock().monotonic()
        if now < self._at_s / 2:
            raise TransientError("the metadata endpoint does not answer")
        return self._notice if now >= self._at_s else None


def test_a_notice_of_eviction_has_a_pilot_leave(tmp_path: Path) -> None:
    service, runner = FakeService(range_units(50)), FakeRunner(wall_s=1000.0)
    notices = (Told(20.0, Notice(9.0, evicted=True)),)
    summary = run_virtual(
        lambda: run_pilot(service, runner, tmp_path, notices=notices, drain_s=100.0)
    )
    assert sorted(number(unit) for unit in service.released) == [0, 1, 2, 3]
    assert summary.wall_s == pytest.approx(24.0)


def test_time_that_ends_sooner_than_was_thought_counts(tmp_path: Path) -> None:
    service, runner = FakeService(range_units(50)), FakeRunner(wall_s=10.0)
    notices = (Told(0.0, Notice(60.0, evicted=False)),)
    settings = {"notices": notices, "drain_s": 3.0, "idle_s_max": 1000.0}
    run_virtual(lambda: run_pilot(service, runner, tmp_path, **settings))
    assert sorted(number(report) for report in service.reports) == [0, 1, 2, 3, 4]


def test_stop_gives_back_a_lease_whose_answer_never_came(tmp_path: Path) -> None:
    service = FakeService(range_units(5))
    service.lose_claim_answers = 1_000_000

    async def stop(pilot: Pilot) -> None:
        await sleep(5.0)
        pilot.stop()

    while_running(lambda: make_pilot(service, FakeRunner(), tmp_path), stop)
    assert len(service.released) == 4
    assert not service.leases


def test_stop_ends_soon_with_nothing_in_hand_though_the_service_is_away(tmp_path: Path) -> None:
    service = FakeService(range_units(5))
    service.away = True

    async def stop(pilot: Pilot) -> None:
        await sleep(5.0)
        pilot.stop()

    summary = while_running(lambda: make_pilot(service, FakeRunner(), tmp_path, drain_s=30.0), stop)
    assert summary.wall_s <= 5.0 + RELEASE_S_MAX + 0.5


def test_stop_ends_although_the_service_is_away(tmp_path: Path) -> None:
    service, runner = FakeService(range_units(5)), FakeRunner(wall_s=1.0)

    async def stop(pilot: Pilot) -> None:
        await sleep(0.5)
        service.away = True
        await sleep(5.0)
        pilot.stop()

    summary = while_running(lambda: make_pilot(service, runner, tmp_path, drain_s=10.0), stop)
    assert summary.wall_s <= 5.5 + 10.0 + 5.0


def test_cancelled_pilot_leaves_like_a_crash_but_cleans_up(tmp_path: Path) -> None:
    service, runner = FakeService(range_units(5)), FakeRunner(wall_s=100.0)

    async def main() -> None:
        running = asyncio.create_task(make_pilot(service, runner, tmp_path).run())
        await sleep(5.0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    run_virtual(main)
    assert runner.cancelled == [0]
    assert service.released == []
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_service_that_is_away_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service, runner = FakeService(range_units(1)), FakeRunner(wall_s=300.0)

    async def go_away(pilot: Pilot) -> None:
        for _ in range(2):
            await sleep(50.0)
            service.away = True
            await sleep(50.0)
            service.away = False

    while_running(lambda: make_pilot(service, runner, tmp_path, lease_s=20.0), go_away)
    told = [record.message for record in caplog.records if "renewed" in record.message]
    assert [text.partition(":")[0] for text in told] == [
        *("leases are not renewed", "leases are renewed again"),
        *("leases are not renewed", "leases are renewed again"),
    ]
