"""What goes wrong with a unit is its report: kind, reason, log; never a hole."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import uproot

from evstream.domain.errors import (
    AccessError,
    ConflictError,
    DataError,
    EvstreamError,
    NotFoundError,
    PayloadError,
    SourceChangedError,
    TransientError,
)
from evstream.domain.ledger import Failure
from evstream.ports import PayloadCall
from evstream.testing.virtual_time import run_virtual
from tests.unit.pilot.fakes import (
    FakeRunner,
    FakeService,
    copying,
    merge_unit,
    range_units,
    run_pilot,
)


def failure_of(
    service: FakeService, runner: FakeRunner, directory: Path, **settings: Any
) -> Failure:
    """Run the pilot on units of which the first one fails and the others do not."""
    units = len(service.ready)
    summary = run_virtual(lambda: run_pilot(service, runner, directory, **settings))
    assert (summary.units_done, summary.units_failed) == (units - 1, 1)
    failure = service.outcome(0).failure
    assert failure is not None
    return failure


def first_only(special: Any, otherwise: Any = copying) -> FakeRunner:
    """Do something special for unit 0."""

    def function(call: PayloadCall) -> None:
        (special if call.values["entry_start"] == "0" else otherwise)(call)

    return FakeRunner(function=function)


def test_failing_payload(tmp_path: Path) -> None:
    def fail(call: PayloadCall) -> None:
        call.log.write_bytes(b"x" * 300_000 + b"the end")
        raise PayloadError("exit code 3", hint="see its log", cpu_s=1.5, wall_s=2.5)

    service = FakeService(range_units(3))
    failure = failure_of(service, first_only(fail), tmp_path)
    assert (failure.kind, failure.log) == ("payload", "log-0")
    assert "exit code 3" in failure.error
    assert (failure.cpu_s, failure.wall_s) == (1.5, 2.5)
    assert len(service.store["/store/log-0"]) == 256 * 1024
    assert service.store["/store/log-0"].endswith(b"the end")
    assert "/store/log-1" not in service.store


def test_log_that_cannot_be_stored_does_not_hold_up_the_report(tmp_path: Path) -> None:
    def fail(call: PayloadCall) -> None:
        call.log.write_text("help")
        raise PayloadError("exit code 1")

    service = FakeService(range_units(2))
    service.errors["upload /store/log-0"] = TransientError("full")
    failure = failure_of(service, first_only(fail), tmp_path)
    assert (failure.kind, failure.log) == ("payload", "")


def test_log_that_hangs_does_not_hold_up_the_report(tmp_path: Path) -> None:
    def fail(call: PayloadCall) -> None:
        call.log.write_text("help")
        raise PayloadError("exit code 1")

    service = FakeService(range_units(1))
    service.upload_s = 1e6
    summary = run_virtual(lambda: run_pilot(service, FakeRunner(function=fail), tmp_path))
    assert (summary.units_failed, summary.wall_s < 100.0) == (1, True)


def leave_nothing(call: PayloadCall) -> None:
    """Succeed, it seems."""


def leave_empty(call: PayloadCall) -> None:
    """Leave a file without content."""
    Path(call.values["output"]).touch()


def leave_link(call: PayloadCall) -> None:
    """Leave a link to something else."""
    Path(call.values["output"]).symlink_to(call.values["input"])


def leave_directory(call: PayloadCall) -> None:
    """Leave what is no file."""
    Path(call.values["output"]).mkdir()


def remove_directory(call: PayloadCall) -> None:
    """Clean up too much."""
    shutil.rmtree(call.directory)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (remove_directory, "removed its directory"),
        (leave_nothing, "left no output"),
        (leave_empty, "empty"),
        (leave_link, "not a regular file"),
        (leave_directory, "not a regular file"),
    ],
)
def test_output_that_is_none(tmp_path: Path, payload: Any, reason: str) -> None:
    service = FakeService(range_units(2))
    failure = failure_of(service, first_only(payload), tmp_path)
    assert failure.kind == "output"
    assert reason in failure.error
    assert failure.cpu_s == 0.5
    assert "/store/out-0" not in service.store


def test_what_became_of_the_input_does_not_matter(tmp_path: Path) -> None:
    def replace_input(call: PayloadCall) -> None:
        copying(call)
        path = Path(call.values["input"])
        path.unlink()
        path.mkdir()

    service = FakeService(range_units(2))
    summary = run_virtual(lambda: run_pilot(service, first_only(replace_input), tmp_path))
    assert (summary.units_done, summary.units_failed) == (2, 0)


def root_file(path: Path, entries: int) -> bytes:
    """Return a ROOT file with one tree."""
    with uproot.recreate(path) as file:
        file.mktree("events", {"x": np.int32})
        file["events"].extend({"x": np.arange(entries, dtype=np.int32)})
    return path.read_bytes()


def test_unreadable_root_output(tmp_path: Path) -> None:
    content = root_file(tmp_path / "made.root", 10)
    service = FakeService(range_units(2, ".root"), {"0": content, "1": content})

    def truncate(call: PayloadCall) -> None:
        Path(call.values["output"]).write_bytes(content[: len(content) // 2])

    failure = failure_of(service, first_only(truncate), tmp_path)
    assert failure.kind == "output"
    assert failure.error


def test_entries_of_root_outputs_are_counted(tmp_path: Path) -> None:
    service = FakeService(range_units(1, ".root"), {"0": root_file(tmp_path / "made.root", 10)})
    run_virtual(lambda: run_pilot(service, FakeRunner(), tmp_path))
    success = service.outcome(0).success
    assert success is not None
    assert success.outputs[0].entries == {"events": 10}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DataError("corrupt"), "input"),
        (NotFoundError("gone"), "source"),
        (SourceChangedError("another file"), "source"),
        (AccessError("no"), "node"),
        (ConflictError("changed"), "input"),
        (TransientError("down"), "node"),
        (EvstreamError("internal"), "node"),
        (OSError(28, "No space left on device"), "node"),
    ],
)
def test_fetch_failure(tmp_path: Path, error: Any, kind: str) -> None:
    service = FakeService(range_units(3))
    service.errors["fetch 0"] = error
    failure = failure_of(service, FakeRunner(), tmp_path)
    assert failure.kind == kind
    assert str(error) in failure.error


def test_fetch_goes_on_trying_while_the_lease_lives(tmp_path: Path) -> None:
    service = FakeService(range_units(2))
    service.errors["fetch 0"] = TransientError("down")
    failure = failure_of(service, FakeRunner(), tmp_path, lease_s=60.0)
    attempts = [entry for entry in service.log if entry == ("fetch", "0")]
    assert 40 <= len(attempts) <= 120
    assert failure.kind == "node"


@pytest.mark.parametrize(
    ("error", "kind"), [(ConflictError("taken"), "output"), (TransientError("full"), "node")]
)
def test_upload_failure(tmp_path: Path, error: EvstreamError, kind: str) -> None:
    service = FakeService(range_units(2))
    service.errors["upload /store/out-0"] = error
    failure = failure_of(service, FakeRunner(), tmp_path)
    assert (failure.kind, failure.error, failure.cpu_s) == (kind, str(error), 0.5)


def test_surprises_are_reported_too(tmp_path: Path) -> None:
    def surprise(call: PayloadCall) -> None:
        raise ZeroDivisionError("of all things")

    failure = failure_of(FakeService(range_units(3)), first_only(surprise), tmp_path)
    assert failure.kind == "internal"
    assert "ZeroDivisionError" in failure.error


def test_names_that_lead_elsewhere_are_refused(tmp_path: Path) -> None:
    unit = msgspec.structs.replace(range_units(1)[0], range_id="../outside")
    failure = failure_of(FakeService([unit]), FakeRunner(), tmp_path)
    assert failure.kind == "input"
    assert not (tmp_path / "outside").exists()


def test_leftovers_of_a_crashed_pilot_are_replaced(tmp_path: Path) -> None:
    stale = tmp_path / "scratch" / range_units(1)[0].range_id
    stale.mkdir(parents=True)
    (stale / "output.txt").write_text("not ours")
    service = FakeService(range_units(1))
    run_virtual(lambda: run_pilot(service, FakeRunner(function=leave_nothing), tmp_path))
    assert service.outcome(0).success is None


def test_merge_joins_inputs_in_order(tmp_path: Path) -> None:
    parts = [root_file(tmp_path / "made.root", entries) for entries in (3, 5, 4)]
    merged: list[bytes] = []
    for attempt in ("first", "second"):
        service = FakeService([merge_unit(parts, ".root")])
        service.store = {f"/store/in-{k}": part for k, part in enumerate(parts)}
        run_virtual(lambda: run_pilot(service, FakeRunner(), tmp_path / attempt))  # noqa: B023
        success = service.outcome(0).success
        assert success is not None
        (output,) = success.outputs
        assert (output.stream, output.name, output.entries) == ("output", "merged", {"events": 12})
        assert success.bytes_in == sum(map(len, parts))
        merged.append(service.store["/store/merged"])
    assert merged[0] == merged[1]
    (tmp_path / "merged.root").write_bytes(merged[0])
    with uproot.open(tmp_path / "merged.root") as file:
        values = file["events"]["x"].array(library="np").tolist()
    assert values == [*range(3), *range(5), *range(4)]


def test_merge_refuses_inputs_that_are_not_what_was_committed(tmp_path: Path) -> None:
    service = FakeService([merge_unit([b"one", b"two"])])
    service.store = {"/store/in-0": b"one", "/store/in-1": b"tww"}
    failure = failure_of(service, FakeRunner(), tmp_path)
    assert failure.kind == "input"
    assert "in-1 is not what was committed" in failure.error
    assert "/store/merged" not in service.store


def test_merge_that_cannot_be_joined_is_final(tmp_path: Path) -> None:
    service = FakeService([merge_unit([b"not a ROOT file"], ".root")])
    service.store = {"/store/in-0": b"not a ROOT file"}
    failure = failure_of(service, FakeRunner(), tmp_path)
    assert failure.kind == "merge"
    assert failure.error


def test_merge_that_cannot_be_joined_says_which_range_does_not_fit(tmp_path: Path) -> None:
    parts = []
    for columns in ("x", "xy"):
        with uproot.recreate(tmp_path / "part.root") as file:
            file.mktree("events", {name: np.zeros(5) for name in columns})
        parts.append((tmp_path / "part.root").read_bytes())
    service = FakeService([merge_unit(parts, ".root")])
    service.store = {f"/store/in-{k}": part for k, part in enumerate(parts)}
    error = failure_of(service, FakeRunner(), tmp_path).error
    assert "'events' of the output of entries 10:20 of a.root has other branches: y" in error


def test_merge_of_text_says_which_range_is_none(tmp_path: Path) -> None:
    service = FakeService([merge_unit([b"no events"], ".lhe")])
    service.store = {"/store/in-0": b"no events"}
    error = failure_of(service, FakeRunner(), tmp_path).error
    assert error.startswith("the output of entries 0:10 of a.root is a text file that begins")
