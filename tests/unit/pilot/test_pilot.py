"""The pilot from claim to answer: the happy path, look-ahead, leaving."""

from __future__ import annotations

import asyncio
import hashlib
import math
from pathlib import Path

import msgspec
import pytest

from evstream.domain.errors import (
    AccessError,
    ConfigError,
    ConflictError,
    PayloadError,
    RequestError,
    TransientError,
)
from evstream.domain.payload import Payload, StagedFile
from evstream.pilot import PilotSummary
from evstream.pilot.depth import Pace
from evstream.ports import PayloadCall
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


def test_every_unit_is_computed_stored_and_reported(tmp_path: Path) -> None:
    service, runner = FakeService(range_units(25)), FakeRunner(wall_s=1.0)
    summary = run_virtual(lambda: run_pilot(service, runner, tmp_path, cores=2))
    assert sorted(number(report) for report in service.reports) == list(range(25))
    content = b"product 7"
    report = service.outcome(7)
    assert report.failure is None
    assert report.success is not None
    (output,) = report.success.outputs
    assert (output.stream, output.name, output.size) == ("output", "out-7", len(content))
    assert output.sha256 == hashlib.sha256(content).hexdigest()
    assert (report.success.cpu_s, report.success.wall_s) == (0.5, 1.0)
    assert report.success.bytes_in == len(content)
    assert service.store["/store/out-7"] == content
    assert (summary.units_done, summary.units_failed, summary.cpu_s) == (25, 0, 12.5)
    assert summary.bytes_in == summary.bytes_out == sum(len(f"product {k}") for k in range(25))
    assert runner.running_most == 2


def test_work_near_an_edge_needs_the_edges_name(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no edge is named"):
        make_pilot(FakeService([]), FakeRunner(), tmp_path, near_only=True)


def test_payload_gets_its_values_and_a_directory_of_its_own(tmp_path: Path) -> None:
    service, runner = FakeService(range_units(3)), FakeRunner()
    run_virtual(lambda: run_pilot(service, runner, tmp_path))
    call = runner.calls[1]
    assert call.values["entry_start"] == "10"
    assert call.values["entry_stop"] == "20"
    assert call.values["range_id"] == call.directory.name == "1-2-0-10-20-1"
    assert call.values["input"] == str(call.directory / "input.root")
    assert call.values["output"] == str(call.directory / "output.txt")
    assert call.directory.is_absolute()
    assert call.payload.wall_s_max == 60.0


def test_long_units_are_claimed_singly_and_short_ones_in_batches(tmp_path: Path) -> None:
    def sizes(wall_s: float, units: int) -> list[int]:
        service = FakeService(range_units(units))
        run_virtual(lambda: run_pilot(service, FakeRunner(wall_s=wall_s), tmp_path / str(units)))
        return [size for kind, size in service.log if kind == "claim"]

    assert max(sizes(10.0, 20)[1:]) == 1
    assert max(sizes(0.01, 2000)) >= 50


def test_short_units_at_first_do_not_make_it_hoard_long_ones(tmp_path: Path) -> None:
    service = FakeService(range_units(500))

    async def work(which: int) -> None:
        await VirtualClock().sleep(0.001 if which < 4 else 100.0)

    async def main() -> None:
        running = asyncio.create_task(make_pilot(service, FakeRunner(before=work), tmp_path).run())
        await VirtualClock().sleep(50.0)
        assert sum(len(units) for units in service.leases.values()) <= 16
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run_virtual(main)


def test_no_more_units_are_held_than_allowed(tmp_path: Path) -> None:
    service = FakeService(range_units(1000))
    most = 0

    async def count(_: int) -> None:
        nonlocal most
        most = max(most, sum(len(units) for units in service.leases.values()))

    runner = FakeRunner(wall_s=0.001, before=count)
    run_virtual(lambda: run_pilot(service, runner, tmp_path, units_ahead_max=16))
    assert 16 <= most <= 32


def test_results_that_cannot_leave_stop_the_claims(tmp_path: Path) -> None:
    service = FakeService(range_units(100))
    service.upload_s = 1000.0
    runner = FakeRunner()

    async def main() -> None:
        pilot = make_pilot(service, runner, tmp_path, cores=2, uploads_max=3)
        running = asyncio.create_task(pilot.run())
        await VirtualClock().sleep(500.0)
        assert len(runner.calls) == 2 + 3
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run_virtual(main)


def test_pace_ignores_pauses() -> None:
    pace = Pace()
    assert pace.units_in(10.0) == 0.0
    for now in range(5):
        pace.computed(float(now))
    pace.pause()
    pace.computed(1000.0)
    pace.computed(1001.0)
    assert pace.units_in(10.0) == 10.0
    pace = Pace()
    pace.computed(1.0)
    pace.computed(1.0)
    assert pace.units_in(1.0) == math.inf


def test_leaves_when_no_task_has_been_active_for_long(tmp_path: Path) -> None:
    service = FakeService([])
    summary = run_virtual(lambda: run_pilot(service, FakeRunner(), tmp_path, idle_s_max=10.0))
    assert summary.wall_s == pytest.approx(10.0)
    assert run_virtual(lambda: run_pilot(service, FakeRunner(), tmp_path)).wall_s == 0.0


def test_waits_while_others_work(tmp_path: Path) -> None:
    service, runner = FakeService([]), FakeRunner()
    service.stay = 1

    async def main() -> None:
        running = asyncio.create_task(run_pilot(service, runner, tmp_path))
        await VirtualClock().sleep(100.0)
        assert not running.done()
        service.ready.extend(range_units(2))
        service.stay = 0
        assert (await running).units_done == 2

    run_virtual(main)


def test_asks_again_at_once_when_its_last_unit_is_answered(tmp_path: Path) -> None:
    service, runner = FakeService(range_units(1)), FakeRunner(wall_s=0.1)
    summary = run_virtual(lambda: run_pilot(service, runner, tmp_path))
    assert summary.wall_s < 0.25


def test_lost_claim_answer_is_asked_for_again_under_the_same_lease(tmp_path: Path) -> None:
    service = FakeService(range_units(5))
    service.lose_claim_answers = 2
    summary = run_virtual(lambda: run_pilot(service, FakeRunner(), tmp_path))
    assert summary.units_done == 5
    assert not any(service.leases.values())


def test_gives_up_a_service_that_stays_away(tmp_path: Path) -> None:
    service = FakeService([])
    service.away = True
    with pytest.raises(TransientError):
        run_virtual(lambda: run_pilot(service, FakeRunner(), tmp_path, away_s_max=30.0))


def test_finishes_what_it_has_when_it_is_refused_more(tmp_path: Path) -> None:
    service = FakeService(range_units(6))
    service.errors |= {f"claim {n}": ConflictError("no more for you") for n in (1, 2, 3, 5, 6)}
    runner = FakeRunner(wall_s=5.0)
    with pytest.raises(ConflictError):
        run_virtual(lambda: run_pilot(service, runner, tmp_path, cores=1))
    assert sorted(number(report) for report in service.reports) == [0, 1, 2, 3]


def test_a_token_that_is_renewed_late_costs_nothing(tmp_path: Path) -> None:
    """Whoever was not let in at all is told so at once."""
    late = AccessError("the token has expired")
    service, runner = FakeService(range_units(6)), FakeRunner(wall_s=5.0)
    asked = [f"claim {units}" for units in (1, 2, 3, 5, 6)] + [f"report {n}" for n in range(1, 7)]
    service.errors |= dict.fromkeys(asked, late)

    async def main() -> PilotSummary:
        running = asyncio.create_task(run_pilot(service, runner, tmp_path, cores=1))
        await VirtualClock().sleep(60.0)
        service.errors.clear()
        return await running

    assert run_virtual(main).units_done == 6
    assert len(runner.calls) == 6
    service = FakeService(range_units(6))
    service.errors["claim 4"] = late
    with pytest.raises(AccessError):
        run_virtual(lambda: run_pilot(service, FakeRunner(), tmp_path, away_s_max=1e9))


def test_unusable_directory_is_said_before_anything_is_claimed(tmp_path: Path) -> None:
    (tmp_path / "scratch").write_text("a file")
    service = FakeService(range_units(1))
    with pytest.raises(ConfigError, match="cannot be used"):
        run_virtual(lambda: make_pilot(service, FakeRunner(), tmp_path).run())
    assert service.log == []


def test_broken_disk_does_not_use_up_everybodys_attempts(tmp_path: Path) -> None:
    def fill(call: PayloadCall) -> None:
        raise OSError(28, "No space left on device")

    service = FakeService(range_units(500))
    with pytest.raises(ConfigError, match="No space left"):
        run_virtual(lambda: run_pilot(service, FakeRunner(function=fill), tmp_path, cores=2))
    failures = [report.failure for report in service.reports]
    assert {failure.kind for failure in failures if failure} == {"node"}
    assert 8 <= len(failures) < 30


def test_payloads_that_fail_on_a_full_disk_cost_their_ranges_nothing(tmp_path: Path) -> None:
    full = False

    def fill(call: PayloadCall) -> None:
        nonlocal full
        full = True
        raise PayloadError("payload exited with status 1: cannot write", cpu_s=1.0, wall_s=2.0)

    service = FakeService(range_units(500))
    runner = FakeRunner(function=fill)
    with pytest.raises(ConfigError, match=r"No space left on device in .*cannot write"):
        run_virtual(lambda: run_pilot(service, runner, tmp_path, disk_is_full=lambda _: full))
    failures = [report.failure for report in service.reports if report.failure]
    assert {(failure.kind, failure.cpu_s) for failure in failures} == {("node", 1.0)}
    assert 8 <= len(failures) < 30


def test_the_node_is_at_fault_for_what_is_cut_short_by_its_full_disk(tmp_path: Path) -> None:
    def cut_short(call: PayloadCall) -> None:
        Path(call.values["output"]).touch()

    service, runner = FakeService(range_units(500)), FakeRunner(function=cut_short)
    with pytest.raises(ConfigError, match="the output is empty"):
        run_virtual(lambda: run_pilot(service, runner, tmp_path, disk_is_full=lambda _: True))
    assert {report.failure.kind for report in service.reports if report.failure} == {"node"}


def test_a_payload_that_made_room_again_has_still_said_that_there_was_none(tmp_path: Path) -> None:
    def fail(call: PayloadCall) -> None:
        raise PayloadError("payload exited with status 1: OSError: No space left on device")

    service, runner = FakeService(range_units(500)), FakeRunner(function=fail)
    with pytest.raises(ConfigError, match="No space left"):
        run_virtual(lambda: run_pilot(service, runner, tmp_path))
    assert {report.failure.kind for report in service.reports if report.failure} == {"node"}


def test_payloads_that_fail_by_themselves_do_not_send_the_pilot_away(tmp_path: Path) -> None:
    def fail(call: PayloadCall) -> None:
        raise PayloadError("payload exited with status 1")

    service, runner = FakeService(range_units(50)), FakeRunner(function=fail)
    assert run_virtual(lambda: run_pilot(service, runner, tmp_path)).units_failed == 50
    assert {report.failure.kind for report in service.reports if report.failure} == {"payload"}


def test_a_node_that_lacks_what_payloads_need_leaves_the_work_to_others(tmp_path: Path) -> None:
    def lack(call: PayloadCall) -> None:
        raise ConfigError("this node has no Apptainer")

    service, runner = FakeService(range_units(500)), FakeRunner(function=lack)
    with pytest.raises(ConfigError, match="units in a row failed by this node has no Apptainer"):
        run_virtual(lambda: run_pilot(service, runner, tmp_path))
    failures = [report.failure for report in service.reports if report.failure]
    assert {failure.kind for failure in failures} == {"node"}
    assert 8 <= len(failures) < 30


@pytest.mark.parametrize("content", [None, b"other bytes"])
def test_a_file_beside_the_input_that_is_not_here_is_the_nodes_fault(
    tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "table.txt").write_bytes(content)
    file = StagedFile("table.txt", str(tmp_path / "table.txt"), "0" * 64)
    payload = Payload("run {files} {output}", files=(file,))
    units = [msgspec.structs.replace(unit, payload=payload) for unit in range_units(30)]
    service = FakeService(units)
    with pytest.raises(ConfigError, match="what the payload needs cannot be had on this node"):
        run_virtual(lambda: run_pilot(service, FakeRunner(), tmp_path, lease_s=10.0))
    assert {report.failure.kind for report in service.reports if report.failure} == {"node"}


def test_a_file_beside_the_input_that_comes_late_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "table.txt"
    file = StagedFile("table.txt", str(path), hashlib.sha256(b"words").hexdigest())
    payload = Payload("run {files} {output}", files=(file,))
    service = FakeService([msgspec.structs.replace(range_units(1)[0], payload=payload)])

    async def main() -> None:
        running = asyncio.create_task(run_pilot_leaving_files(service, tmp_path))
        await VirtualClock().sleep(3.0)
        path.write_bytes(b"words")
        assert await running == 1

    run_virtual(main)


async def run_pilot_leaving_files(service: FakeService, directory: Path) -> int:
    """Run a pilot whose scratch keeps what was staged; return how many units it did."""
    return (await make_pilot(service, FakeRunner(), directory).run()).units_done


def test_the_next_payload_begins_before_an_output_is_looked_at(tmp_path: Path) -> None:
    service, runner, begun = FakeService(range_units(3)), FakeRunner(wall_s=1.0), []
    upload = service.upload

    async def noting(url: str, path: Path) -> w.StoredAnswer:
        begun.append(len(runner.calls))
        return await upload(url, path)

    service.upload = noting  # type: ignore[method-assign]
    run_virtual(lambda: run_pilot(service, runner, tmp_path, cores=1))
    assert begun == [2, 3, 3]
