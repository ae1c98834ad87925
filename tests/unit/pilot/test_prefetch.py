"""Inputs arrive while payloads compute, in order, bounded in number and in bytes."""

# ruff: noqa: ASYNC240 - small files on a local disk, and no other work waits

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from evstream import rootio
from evstream.domain.dataset import Fingerprint
from evstream.domain.descriptor import slice_of
from evstream.domain.errors import TransientError
from evstream.pilot.prefetch import DiskBudget, Space
from evstream.pilot.shared_products import SHARED_BYTES_MAX
from evstream.ports import PayloadCall
from evstream.testing.virtual_time import VirtualClock, run_virtual
from evstream.wire.messages import DeliveryPlan
from evstream.wire.work_messages import RangeUnit, SecondaryInput
from tests.unit.pilot.fakes import (
    STEP,
    FakeRunner,
    FakeService,
    copying,
    number,
    range_units,
    run_pilot,
)


def test_next_inputs_arrive_while_a_payload_computes(tmp_path: Path) -> None:
    service = FakeService(range_units(20))
    service.fetch_s = 3.0
    waited: list[int] = []

    async def note(which: int) -> None:
        waited.append(sum(key == which + 1 for key in map(int, fetched())) if which else 1)
        await VirtualClock().sleep(4.0)

    def fetched() -> list[str]:
        return [entry[1] for entry in service.log if entry[0] == "fetch"]

    summary = run_virtual(lambda: run_pilot(service, FakeRunner(before=note), tmp_path))
    # Only the first fetch is waited for: 3 s, then 20 payloads of 4 s.
    assert summary.wall_s == pytest.approx(3.0 + 20 * 4.0, abs=1.0)
    assert fetched() == [str(k) for k in range(20)]


def test_fetches_are_bounded_in_number(tmp_path: Path) -> None:
    service = FakeService(range_units(100))
    service.fetch_s = 1.0
    run_virtual(lambda: run_pilot(service, FakeRunner(), tmp_path, cores=20, fetches_max=3))
    assert service.fetching_most == 3


def test_product_that_cannot_be_had_does_not_hold_up_the_others(tmp_path: Path) -> None:
    service = FakeService(range_units(20))
    service.errors["fetch 0"] = TransientError("down")
    runner = FakeRunner(wall_s=1.0)
    summary = run_virtual(lambda: run_pilot(service, runner, tmp_path, fetches_max=1))
    assert (summary.units_done, summary.units_failed) == (19, 1)
    assert number(service.reports[-1]) == 0


def test_inputs_on_disk_are_bounded_in_bytes(tmp_path: Path) -> None:
    service = FakeService(range_units(40), {str(k): b"x" * 1000 for k in range(40)})
    on_disk: list[int] = []

    async def note(_: int) -> None:
        on_disk.append(sum(path.stat().st_size for path in tmp_path.rglob("input.root")))

    runner = FakeRunner(wall_s=1.0, before=note)
    summary = run_virtual(
        lambda: run_pilot(
            service, runner, tmp_path, cores=8, prefetch_bytes_max=5500, fetches_max=4
        )
    )
    assert summary.units_done == 40
    assert 4000 <= max(on_disk) <= 5500


def test_one_unit_may_always_go_however_large(tmp_path: Path) -> None:
    service = FakeService(range_units(5), {str(k): b"x" * 1000 for k in range(5)})
    runner = FakeRunner(wall_s=1.0)
    summary = run_virtual(
        lambda: run_pilot(service, runner, tmp_path, cores=2, prefetch_bytes_max=10, fetches_max=2)
    )
    assert summary.units_done == 5


def test_budget_serves_in_order_and_outlives_cancellation() -> None:
    async def main() -> None:
        budget = DiskBudget(100)
        got: list[str] = []
        spaces: dict[str, Space] = {}

        async def ask(name: str, size: int) -> None:
            spaces[name] = await budget.reserve(lambda: size)
            got.append(name)

        tasks = {
            name: asyncio.create_task(ask(name, size))
            for name, size in [("a", 80), ("large", 50), ("small", 10), ("b", 90)]
        }
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert got == ["a"]  # "small" would fit, but it is not its turn
        tasks["large"].cancel()
        await asyncio.wait([tasks["large"], tasks["small"]])
        assert got == ["a", "small"]
        spaces["small"].settle(5)
        spaces["a"].free()
        spaces["a"].free()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert got == ["a", "small", "b"]
        spaces["small"].free()
        spaces["b"].free()
        assert budget.used == 0

    asyncio.run(main())


def test_budget_takes_back_what_a_cancelled_waiter_was_just_given() -> None:
    async def main() -> None:
        budget = DiskBudget(100)
        first = await budget.reserve(lambda: 100)
        waiter = asyncio.create_task(budget.reserve(lambda: 100))
        await asyncio.sleep(0)
        first.free()
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)
        assert budget.used == 0

    asyncio.run(main())


def of_part(unit: RangeUnit, **changes: Any) -> RangeUnit:
    """Return a unit whose only range is told otherwise."""
    (part,) = unit.parts
    return structs.replace(unit, parts=[structs.replace(part, **changes)])


@pytest.mark.parametrize("content", [bytes(SHARED_BYTES_MAX + 1), b"damaged"])
def test_product_that_cannot_be_shared_is_asked_for_unit_by_unit(
    tmp_path: Path, content: bytes
) -> None:
    descriptor = slice_of(Fingerprint(1, "", ""), "Events", (0, 3 * STEP), None).to_wire()
    plan = DeliveryPlan("shared", descriptor, ["/v1/products/shared"])
    units = [of_part(unit, plan=plan, product_entries=(0, 3 * STEP)) for unit in range_units(3)]
    service = FakeService(units, {"shared": content})
    service.errors["fetch own 10-20"] = rootio.CorruptFileError("damaged")
    summary = run_virtual(lambda: run_pilot(service, FakeRunner(), tmp_path))
    # Nothing counts against a unit but what is wrong with its own entries.
    assert (summary.units_done, summary.units_failed) == (2, 1)
    registered = [entry[1] for entry in service.log if entry[0] == "register"]
    assert registered == ["own 0-10", "own 10-20", "own 20-30"]


def test_secondary_inputs_come_with_the_unit_and_go_with_it(tmp_path: Path) -> None:
    (unit,) = range_units(1)
    plans = [DeliveryPlan(key, {"format": kind}, []) for key, kind in (("x", "root"), ("y", "lhe"))]
    beside = [SecondaryInput("pileup", "T", plans), SecondaryInput("none", "U", [])]
    service = FakeService([of_part(unit, secondary=beside)])
    given: list[PayloadCall] = []

    def payload(call: PayloadCall) -> None:
        given.append(call)
        assert set(call.secondary) == {"pileup", "none"}
        files = [Path(path) for path in call.secondary["pileup"].paths]
        assert [file.name for file in files] == [
            "secondary-pileup-0.root",
            "secondary-pileup-1.lhe",
        ]
        assert [file.read_bytes() for file in files] == [b"product x", b"product y"]
        assert (call.secondary["pileup"].tree, call.secondary["none"].paths) == ("T", ())
        copying(call)

    run_virtual(lambda: run_pilot(service, FakeRunner(payload), tmp_path))
    success = service.outcome(0).success
    assert success is not None, service.outcome(0).failure
    assert success.bytes_in == len("product 0" + "product x" + "product y")
    assert len(given) == 1


def test_secondary_inputs_stay_in_the_units_directory(tmp_path: Path) -> None:
    (unit,) = range_units(1)
    beside = [SecondaryInput("../../x", "T", [DeliveryPlan("x", {}, [])])]
    service = FakeService([of_part(unit, secondary=beside)])
    run_virtual(lambda: run_pilot(service, FakeRunner(), tmp_path))
    failure = service.outcome(0).failure
    assert failure is not None
    assert "cannot name a file" in failure.error
