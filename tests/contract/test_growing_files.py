"""Several ranges in one file: opened once, closed when told, one worker's alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from evstream.adapters.payload.long_lived import LongLivedRunner
from evstream.domain.errors import PayloadError
from evstream.domain.payload import Payload
from evstream.ports.payload import PayloadCall, PayloadRange, PayloadResult, PayloadRunner
from evstream.testing.contracts import PayloadRunnerContract
from tests.contract.test_long_lived_payloads import WAIT_S_MAX, python

GROWING = """
from evstream.payload import GrowingFile

def note(what):
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(what + "\\n")

def close(file):
    file.write("end")
    file.close()
    note("closed " + file.name)

growing = GrowingFile(lambda path: path.open("w"), close)

def add(unit):
    with growing.of(unit) as file:
        if unit.entry_start == 13:
            raise ValueError("a bad range")
        if unit.entry_start == 14:
            os.kill(os.getpid(), signal.SIGKILL)
        if unit.entry_start == 15:
            time.sleep(1000)
        file.write(f"{os.getpid()} {unit.range_id} {unit.input.name}\\n")
"""

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def runner() -> AsyncIterator[PayloadRunner]:
    runner = LongLivedRunner(cores=2, grace_s=WAIT_S_MAX, watch_every_s=0.01)
    yield runner
    await runner.close()


def growing(tmp_path: Path, how: str = "serve(add, initialise)", **more: object) -> Payload:
    return python(GROWING + how, environment={"NOTES": str(tmp_path / "notes")}, **more)


def call_of(folder: Path, payload: Payload, *starts: int) -> PayloadCall:
    """Return a unit with ranges that begin at these entries."""
    call = PayloadRunnerContract.call(folder, payload)
    ranges = [
        PayloadRange(
            {
                "input": f"input-{number}",
                "entry_start": str(start),
                "entry_stop": str(start + 1),
                "range_id": f"range-{start}",
            }
        )
        for number, start in enumerate(starts)
    ]
    return replace(call, values={**call.values, **ranges[0].values}, ranges=ranges)


def lines_of(folder: Path) -> list[list[str]]:
    *lines, end = (folder / "out put.root").read_text().split("\n")
    assert end == "end"
    return [line.split() for line in lines]


def notes(tmp_path: Path) -> list[str]:
    path = tmp_path / "notes"
    return path.read_text().splitlines() if path.exists() else []


LOOP = """
for unit in units():
    with unit:
        add(unit)
"""


@pytest.mark.parametrize("how", ["serve(add, initialise)", LOOP])
async def test_ranges_are_written_into_one_file(
    runner: PayloadRunner, tmp_path: Path, how: str
) -> None:
    payload = growing(tmp_path, how)
    told: list[float] = []
    folders = [tmp_path / str(number) for number in range(4)]
    calls = [
        call_of(each, payload, 20 * n, 20 * n + 1, 20 * n + 2) for n, each in enumerate(folders)
    ]
    results = await asyncio.gather(*(runner.run(call, told.append) for call in calls))
    for number, (folder, result) in enumerate(zip(folders, results, strict=True)):
        assert result.ranges == 3
        lines = lines_of(folder)
        # By one process, in order, whatever the others did meanwhile.
        assert len({pid for pid, *_ in lines}) == 1
        assert [words[1:] for words in lines] == [
            [f"range-{20 * number + n}", f"input-{n}"] for n in range(3)
        ]
    assert len(notes(tmp_path)) == len(folders)


async def test_a_file_is_closed_before_its_time_when_the_pilot_leaves(
    runner: PayloadRunner, tmp_path: Path
) -> None:
    answers = iter([False, False, True])
    call = call_of(tmp_path / "unit", growing(tmp_path), *range(5))
    result = await runner.run(replace(call, closing=lambda: next(answers)), lambda cpu_s: None)
    assert result.ranges == 3
    assert [words[1] for words in lines_of(tmp_path / "unit")] == ["range-0", "range-1", "range-2"]


@pytest.mark.parametrize(
    ("start", "told"),
    [(13, "ValueError: a bad range"), (14, "SIGKILL"), (15, "hung: no answer after 0.5 s")],
)
async def test_what_fails_takes_its_file_with_it_and_nothing_else(
    runner: PayloadRunner, tmp_path: Path, start: int, told: str
) -> None:
    payload = growing(tmp_path, wall_s_max=0.5 if start == 15 else 60.0)
    bad = call_of(tmp_path / "bad", payload, 0, start, 2)
    good = [call_of(tmp_path / f"good{n}", payload, 30, 31) for n in range(4)]
    results = await asyncio.gather(
        *(runner.run(call, lambda cpu_s: None) for call in (bad, *good)), return_exceptions=True
    )
    assert told in str(results[0])
    assert all(isinstance(result, PayloadResult) for result in results[1:]), results
    for number in range(4):
        assert [words[1] for words in lines_of(tmp_path / f"good{number}")] == [
            "range-30",
            "range-31",
        ]
    # The ranges that were in it come again, into a new file.
    await runner.run(call_of(tmp_path / "again", payload, 0, 1, 2), lambda cpu_s: None)
    assert len(lines_of(tmp_path / "again")) == 3


async def test_a_worker_that_dies_between_two_ranges_loses_its_file(
    runner: PayloadRunner, tmp_path: Path
) -> None:
    code = """
def die_after(unit):
    if unit.entry_start == 0 and not unit.close:
        unit.done()
        os.kill(os.getpid(), signal.SIGKILL)
    copy(unit)
serve(die_after, workers=1)
"""
    call = call_of(tmp_path / "unit", python(code), 0, 1)
    with pytest.raises(PayloadError, match=r"file open has died|SIGKILL"):
        await runner.run(call, lambda cpu_s: None)
    good = PayloadRunnerContract.call(tmp_path / "good", call.payload)
    await runner.run(good, lambda cpu_s: None)
    assert (tmp_path / "good" / "out put.root").read_bytes() == b"events"


@pytest.mark.parametrize(
    "how",
    ["serve(copy)", "for unit in units():\n    with unit:\n        copy(unit)"],
    ids=["workers", "loop"],
)
async def test_who_knows_nothing_of_growing_files_is_told(
    runner: PayloadRunner, tmp_path: Path, how: str
) -> None:
    source = tmp_path / "input-0"
    source.write_bytes(b"events")
    call = call_of(tmp_path / "unit", python(how), 0, 1)
    for each in call.ranges:
        each.values["input"] = str(source)
    with pytest.raises(PayloadError, match="does not keep its file open for the next range"):
        await runner.run(call, lambda cpu_s: None)
    # One range in a file needs no such knowledge, and the process goes on.
    for number in range(3):
        folder = tmp_path / f"single{number}"
        await runner.run(PayloadRunnerContract.call(folder, call.payload), lambda cpu_s: None)
        assert (folder / "out put.root").read_bytes() == b"events"


async def test_a_unit_that_nobody_wants_between_two_ranges_frees_its_worker(
    runner: PayloadRunner, tmp_path: Path
) -> None:
    payload = growing(tmp_path, "serve(add, workers=1)")
    asked = asyncio.Event()

    def closing() -> bool:
        asked.set()
        return False

    for number in range(5):
        call = call_of(tmp_path / f"unwanted{number}", payload, *range(20, 1000))
        unwanted = asyncio.ensure_future(
            runner.run(replace(call, closing=closing), lambda cpu_s: None)
        )
        await asked.wait()
        asked.clear()
        unwanted.cancel()
        with pytest.raises(asyncio.CancelledError):
            await unwanted
    await runner.run(call_of(tmp_path / "wanted", payload, 0, 1), lambda cpu_s: None)
    assert len(lines_of(tmp_path / "wanted")) == 2


async def test_a_file_is_not_named_before_it_is_to_be_closed(
    runner: PayloadRunner, tmp_path: Path
) -> None:
    code = "for unit in units(): Path('part').touch(); unit.done(output='part')"
    with pytest.raises(PayloadError, match="before it was told to close"):
        await runner.run(call_of(tmp_path / "unit", python(code), 0, 1), lambda cpu_s: None)


async def test_the_last_range_may_name_what_its_framework_called_it(
    runner: PayloadRunner, tmp_path: Path
) -> None:
    code = """
for number, unit in enumerate(units()):
    name = f"growing._{number // 2:04}"
    with open(name, "a") as file: file.write(f"{unit.entry_start} ")
    unit.done(**({"output": name} if unit.close else {}))
"""
    payload = python(code)
    for number in range(2):
        await runner.run(
            call_of(tmp_path / str(number), payload, 2 * number, 2 * number + 1),
            lambda cpu_s: None,
        )
        text = (tmp_path / str(number) / "out put.root").read_text()
        assert text == f"{2 * number} {2 * number + 1} "
