"""What belongs to which stream, and that nothing is sent of a unit that has failed."""

from __future__ import annotations

import hashlib
import math
import mmap
import os
import subprocess
import zlib
from pathlib import Path
from typing import Any, TextIO, cast

import msgspec
import pytest
from msgspec import structs

from evstream.adapters.formats import KnownFormats
from evstream.adapters.offload import InPlace
from evstream.adapters.source.fsspec import FsspecOpener
from evstream.client import Service
from evstream.domain.errors import DataError, TransientError
from evstream.domain.streams import FILES_PER_STREAM_MAX
from evstream.pilot import PilotSettings, Tools
from evstream.pilot.outputs import OutputStage
from evstream.pilot.spotting import is_closed
from evstream.pilot.unit_files import find_files, output_values
from evstream.ports import PayloadCall, Stored
from evstream.testing.seeded_ids import SeededIds
from evstream.testing.virtual_time import VirtualClock, run_virtual
from evstream.wire import work_messages as wm
from tests.unit.pilot.fakes import FakeRunner, FakeService, range_units, run_pilot


def slot(stream: str, pattern: str = "", **fields: Any) -> wm.OutputSlot:
    name = f"tasks/1/{stream}/2-0-0-10.a1.lease.txt"
    return wm.OutputSlot(stream, ".txt", name, f"/store/{stream}?e=1", pattern, **fields)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_text(name)


def test_files_go_to_the_first_stream_that_they_match(tmp_path: Path) -> None:
    slots = [slot("output"), slot("hist", "hist_*.txt"), slot("rest", "*.txt")]
    touch(tmp_path, "output.txt", "hist_2.txt", "hist_1.txt", "a.txt", "log.txt", "b.root")
    found = [
        (file.slot.stream, file.path.name, file.number) for file in find_files(slots, tmp_path)
    ]
    assert found == [
        ("output", "output.txt", 0),
        ("hist", "hist_1.txt", 0),
        ("hist", "hist_2.txt", 1),
        ("rest", "a.txt", 0),
    ]


def test_several_files_have_names_and_urls_of_their_own(tmp_path: Path) -> None:
    touch(tmp_path, "a.txt", "b.txt")
    first, second = find_files([slot("any", "?.txt")], tmp_path)
    assert (first.name, first.url) == ("tasks/1/any/2-0-0-10.a1.lease.txt", "/store/any?e=1")
    assert (second.name, second.url) == (
        "tasks/1/any/2-0-0-10-1.a1.lease.txt",
        "/store/any?e=1&n=1",
    )


def test_only_optional_streams_may_be_absent(tmp_path: Path) -> None:
    slots = [slot("output", optional=True), slot("hist", "h*.txt", optional=True)]
    assert find_files(slots, tmp_path) == []
    with pytest.raises(DataError, match=r"no file that matches 'h\*.txt'"):
        find_files([slot("hist", "h*.txt")], tmp_path)


def test_too_many_files_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{n}.txt" for n in range(FILES_PER_STREAM_MAX + 1)))
    with pytest.raises(DataError, match="1001 files"):
        find_files([slot("any", "*.txt")], tmp_path)


def test_payloads_are_told_each_name_and_the_first_twice(tmp_path: Path) -> None:
    values = output_values([slot("main"), slot("hist", "h*.txt"), slot("b")], tmp_path)
    assert values == {
        "output": str(tmp_path / "output-main.txt"),
        "output:main": str(tmp_path / "output-main.txt"),
        "output:b": str(tmp_path / "output-b.txt"),
    }


def with_streams(*slots: wm.OutputSlot) -> list[wm.RangeUnit]:
    (unit,) = range_units(1)
    # An input that patterns match as well.
    (part,) = unit.parts
    plan = msgspec.structs.replace(part.plan, descriptor={"format": "txt"})
    parts = [msgspec.structs.replace(part, plan=plan)]
    return [msgspec.structs.replace(unit, outputs=list(slots), parts=parts)]


def test_all_streams_of_a_unit_are_reported_together(tmp_path: Path) -> None:
    def payload(call: PayloadCall) -> None:
        Path(call.values["output"]).write_text("main")
        Path(call.values["output:b"]).write_text("b")
        touch(call.directory, "h1.txt", "h2.txt")

    service = FakeService(with_streams(slot("output"), slot("b"), slot("h", "h*.txt")))
    run_virtual(lambda: run_pilot(service, FakeRunner(payload), tmp_path))
    success = service.outcome(0).success
    assert success is not None
    assert [(o.stream, o.name.split("/")[-1]) for o in success.outputs] == [
        ("output", "2-0-0-10.a1.lease.txt"),
        ("b", "2-0-0-10.a1.lease.txt"),
        ("h", "2-0-0-10.a1.lease.txt"),
        ("h", "2-0-0-10-1.a1.lease.txt"),
    ]
    assert service.store["/store/h?e=1&n=1"] == b"h2.txt"


def test_small_outputs_go_with_the_report(tmp_path: Path) -> None:
    def payload(call: PayloadCall) -> None:
        Path(call.values["output"]).write_text("main")
        Path(call.values["output:b"]).write_text("b")

    service = FakeService(with_streams(slot("output"), slot("b")))
    run_virtual(lambda: run_pilot(service, FakeRunner(payload), tmp_path, inline_bytes_max=5))
    report = service.outcome(0)
    assert report.success is not None
    main, b = report.success.outputs
    assert (main.size, main.sha256) == (4, hashlib.sha256(b"main").hexdigest())
    assert main.adler32 == f"{zlib.adler32(b'main'):08x}"
    assert report.contents == {main.name: b"main", b.name: b"b"}
    assert service.store == {}


def test_what_is_to_be_bundled_goes_with_the_report(tmp_path: Path) -> None:
    def payload(call: PayloadCall) -> None:
        Path(call.values["output"]).write_text("content")

    units = [msgspec.structs.replace(unit, bundle_bytes=7) for unit in range_units(2)]
    units[1] = msgspec.structs.replace(units[1], bundle_bytes=6)
    service = FakeService(units)
    run_virtual(lambda: run_pilot(service, FakeRunner(payload), tmp_path, inline_bytes_max=0))
    assert [list(one.contents.values()) for one in service.reports] == [[b"content"], []]
    assert list(service.store.values()) == [b"content"]


def test_outputs_that_are_not_small_together_are_stored_each(tmp_path: Path) -> None:
    def payload(call: PayloadCall) -> None:
        Path(call.values["output"]).write_text("main")
        Path(call.values["output:b"]).write_text("bb")

    service = FakeService(with_streams(slot("output"), slot("b")))
    run_virtual(lambda: run_pilot(service, FakeRunner(payload), tmp_path, inline_bytes_max=5))
    assert service.outcome(0).contents == {}
    assert service.store == {"/store/output?e=1": b"main", "/store/b?e=1": b"bb"}


def test_nothing_is_sent_of_a_unit_with_a_bad_output(tmp_path: Path) -> None:
    def payload(call: PayloadCall) -> None:
        Path(call.values["output"]).write_text("main")
        Path(call.values["output:b"]).write_text("")

    service = FakeService(with_streams(slot("output"), slot("b")))
    run_virtual(lambda: run_pilot(service, FakeRunner(payload), tmp_path))
    failure = service.outcome(0).failure
    assert failure is not None
    assert failure.kind == "output"
    assert "output-b.txt of stream 'b' is empty" in failure.error
    assert set(service.store) <= {"/store/log-0"}


def run_slowly(
    tmp_path: Path, steps: dict[float, Any], *slots: wm.OutputSlot
) -> tuple[FakeService, list[tuple[str, str]], list[str]]:
    """Run one unit whose payload does things at given seconds, and ends with the last one.

    Returns the service, what was reported as (stream, name) and what was sent before the end.
    """
    service, early = run_steps(tmp_path, steps, *slots)
    success = service.outcome(0).success
    assert success is not None, service.outcome(0).failure
    return service, [(o.stream, o.name.split("/")[-1]) for o in success.outputs], early


def run_steps(
    tmp_path: Path, steps: dict[float, Any], *slots: wm.OutputSlot
) -> tuple[FakeService, list[str]]:
    """Do the same, however it ends: return the service and what was sent before the end."""
    service = FakeService(with_streams(*(slots or [slot("h", "h*.txt")])))
    folder: list[Path] = []
    early: list[str] = []

    async def work(which: int) -> None:
        now = 0.0
        directory = folder[0] if folder else next((tmp_path / "scratch").iterdir())
        folder.append(directory)
        for second, step in steps.items():
            await service.clock.sleep(second - now)
            now = second
            step(directory)
        early.extend(url for what, url, *_ in service.log if what == "upload")

    runner = FakeRunner(lambda call: None, before=work)
    run_virtual(lambda: run_pilot(service, runner, tmp_path, lease_s=1000.0))
    return service, early


def test_a_file_that_nobody_touches_is_sent_while_the_payload_runs(tmp_path: Path) -> None:
    service, reported, early = run_slowly(
        tmp_path,
        {
            1.0: lambda d: (d / "h2.txt").write_text("two"),
            20.0: lambda d: (d / "h1.txt").write_text("one"),
            21.0: lambda d: None,
        },
    )
    assert early == ["/store/h?e=1"]
    assert service.store["/store/h?e=1"] == b"two"
    assert service.store["/store/h?e=1&n=1"] == b"one"
    # In the order of the files' names, whatever was sent first.
    assert [name for _, name in reported] == [
        "2-0-0-10-1.a1.lease.txt",
        "2-0-0-10.a1.lease.txt",
    ]


def test_a_file_that_is_renamed_to_its_name_is_sent_at_once(tmp_path: Path) -> None:
    _, _, early = run_slowly(
        tmp_path,
        {
            1.0: lambda d: (d / "part.tmp").write_text("whole"),
            4.5: lambda d: (d / "part.tmp").rename(d / "h1.txt"),
            6.9: lambda d: None,
        },
    )
    assert early == ["/store/h?e=1"]


def test_a_file_that_grows_is_not_sent_before_the_end(tmp_path: Path) -> None:
    steps = {float(s): lambda d, s=s: (d / "h1.txt").write_text("x" * s) for s in range(1, 30, 2)}
    service, reported, early = run_slowly(tmp_path, steps)
    assert (early, len(reported)) == ([], 1)
    assert service.store["/store/h?e=1"] == b"x" * 29


def test_a_file_that_changes_after_all_is_sent_again(tmp_path: Path) -> None:
    service, reported, early = run_slowly(
        tmp_path,
        {
            1.0: lambda d: (d / "h1.txt").write_text("not yet"),
            20.0: lambda d: (d / "h1.txt").write_text("the whole of it"),
            21.0: lambda d: None,
        },
    )
    assert early == ["/store/h?e=1"]
    assert reported == [("h", "2-0-0-10-1.a1.lease.txt")]
    assert service.store["/store/h?e=1&n=1"] == b"the whole of it"


def write(folder: Path, name: str, text: str) -> TextIO:
    """Write a file and leave it open."""
    file = (folder / name).open("a")
    file.write(text)
    file.flush()
    return file


@pytest.mark.parametrize(("pattern", "name"), [("", "output-h.txt"), ("h*.txt", "h1.txt")])
def test_a_file_is_sent_as_soon_as_it_is_closed_and_not_before(
    tmp_path: Path, pattern: str, name: str
) -> None:
    held: list[TextIO] = []
    service, reported, early = run_slowly(
        tmp_path,
        {
            1.5: lambda d: held.append(write(d, name, "the beginning, ")),
            30.5: lambda d: (held[0].write("the end"), held[0].close()),
            33.0: lambda d: None,
        },
        slot("h", pattern, complete="closed"),
    )
    assert early == ["/store/h?e=1"]
    assert service.store["/store/h?e=1"] == b"the beginning, the end"
    assert reported == [("h", "2-0-0-10.a1.lease.txt")]


def test_a_file_that_is_opened_again_is_sent_again(tmp_path: Path) -> None:
    service, reported, early = run_slowly(
        tmp_path,
        {
            1.0: lambda d: write(d, "output-h.txt", "some").close(),
            10.0: lambda d: write(d, "output-h.txt", " more").close(),
            10.5: lambda d: None,
        },
        slot("h", complete="closed"),
    )
    assert early == ["/store/h?e=1"]
    assert reported == [("h", "2-0-0-10-1.a1.lease.txt")]
    assert service.store["/store/h?e=1&n=1"] == b"some more"


def test_a_file_that_is_opened_again_and_again_waits_for_the_end(tmp_path: Path) -> None:
    lines = FILES_PER_STREAM_MAX + 10
    steps: dict[float, Any] = {
        float(4 * n): lambda d: write(d, "output-h.txt", "line\n").close()
        for n in range(1, lines + 1)
    }
    service, reported, early = run_slowly(tmp_path, steps, slot("h", complete="closed"))
    assert early == ["/store/h?e=1", "/store/h?e=1&n=1", "/store/h?e=1&n=2"]
    assert reported == [("h", "2-0-0-10-3.a1.lease.txt")]
    assert service.store["/store/h?e=1&n=3"] == b"line\n" * lines


def test_a_file_that_was_sent_and_then_removed_is_a_missing_output(tmp_path: Path) -> None:
    service, early = run_steps(
        tmp_path,
        {
            1.0: lambda d: write(d, "output-h.txt", "some").close(),
            10.0: lambda d: (d / "output-h.txt").unlink(),
            10.5: lambda d: None,
        },
        slot("h", complete="closed"),
    )
    assert early == ["/store/h?e=1"]
    failure = service.outcome(0).failure
    assert failure is not None
    assert failure.kind == "output"
    assert "the payload left no output" in failure.error


def test_only_of_its_own_stream_a_closing_is_enough(tmp_path: Path) -> None:
    _, _, early = run_slowly(
        tmp_path,
        {
            1.0: lambda d: touch(d, "output-a.txt", "output-b.txt", "h1.txt"),
            4.5: lambda d: None,
        },
        slot("a", complete="closed"),
        slot("b"),
        slot("h", "h*.txt"),
    )
    assert early == ["/store/a?e=1"]


def test_inputs_are_no_outputs(tmp_path: Path) -> None:
    _, reported, early = run_slowly(
        tmp_path,
        {
            1.0: lambda d: (touch(d, "a.txt"), (d / "input.txt").read_bytes()),
            20.0: lambda d: None,
        },
        slot("all", "*.txt", complete="closed"),
    )
    assert (early, reported) == (["/store/all?e=1"], [("all", "2-0-0-10.a1.lease.txt")])


def test_closed_is_what_no_process_writes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("w"):
        assert not is_closed(path)
    assert is_closed(path)
    with path.open():
        assert is_closed(path)
    path.write_text("mapped")
    with path.open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 1)
    assert not is_closed(path)
    mapped.close()
    command = ["sh", "-c", 'exec 3>>"$0"; echo; read line', path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert not is_closed(path)
        child.communicate(b"end\n")
    assert is_closed(path)


def test_what_cannot_be_told_is_not_closed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "link", tmp_path / "pipe", tmp_path / "none"):
        assert not is_closed(path)


class BrokenWriter:
    """Cannot write, and may leave a part each time."""

    def __init__(self) -> None:
        self.places: list[str] = []

    async def write(self, place: str, path: Path, within_s: float = math.inf) -> Stored:
        self.places.append(place)
        raise TransientError("the store is away")

    async def close(self) -> bool:
        return True


@pytest.mark.parametrize(("scheme", "number"), [("root", 1), ("https", 0)])
def test_where_a_part_may_be_left_the_output_gets_another_name(
    tmp_path: Path, scheme: str, number: int
) -> None:
    """A signed URL is that of one name, and the whole replaces the part."""
    service, writer = FakeService([]), BrokenWriter()
    tools = Tools(FakeRunner(), KnownFormats(), InPlace(), FsspecOpener(), writer=writer)
    settings = PilotSettings(inline_bytes_max=0, store_s_max=1.0)
    stage = OutputStage(cast("Service", service), VirtualClock(), SeededIds(1), tools, settings)
    wanted = slot("output")
    wanted = structs.replace(wanted, places=[f"{scheme}://store/{wanted.name}"])
    touch(tmp_path, "output.txt")
    left = run_virtual(lambda: stage.store([wanted], tmp_path))
    assert set(writer.places) == set(wanted.places)
    (record,) = left.records
    assert record.name == "tasks/1/output/2-0-0-10.a1.lease.txt".replace(
        "0-10.", f"0-10{f'-{number}' if number else ''}."
    )
    assert service.log == [("upload", f"/store/output?e=1{f'&n={number}' if number else ''}")]
