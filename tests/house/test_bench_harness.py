"""The harness of the benchmarks: rounds, limits, and what it writes."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.harness import EXIT_FALLS_SHORT, EXIT_HOLDS, Bench, Samples
from bench.machine import describe_commit, describe_machine
from bench.rootio import report_comparisons


@pytest.fixture
def screen() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def bench(tmp_path: Path, screen: io.StringIO) -> Bench:
    return Bench("sample", results=tmp_path / "results", console=Console(file=screen, width=100))


def written(bench: Bench) -> dict[str, Any]:
    """Return the one file that a benchmark wrote."""
    [path] = bench.results.iterdir()
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_subjects_take_turns_and_the_order_turns_round(bench: Bench) -> None:
    order: list[str] = []

    def subject(name: str, figure: float) -> Callable[[], float]:
        def run() -> float:
            order.append(name)
            return figure + len(order)

        return run

    samples = bench.interleave({"a": subject("a", 0), "b": subject("b", 100)}, rounds=3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert samples["a"] == Samples((1, 4, 5))
    assert (samples["a"].median, samples["a"].spread) == (4, 4)


def test_a_subject_without_a_figure_gives_its_wall_seconds(bench: Bench) -> None:
    [value] = bench.interleave({"idle": lambda: None}, rounds=1)["idle"].values
    assert 0 <= value < 10


def test_no_rounds_are_refused(bench: Bench) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        bench.interleave({"a": lambda: 1.0}, rounds=0)


@pytest.mark.parametrize(
    ("op", "limit", "holds"),
    [("<", 2, False), ("<=", 2, True), ("==", 2, True), (">=", 2, True), (">", 1.9, True)],
)
def test_limits_hold_or_not(bench: Bench, op: str, limit: float, holds: bool) -> None:
    assert bench.ask("two", 2.0, op, limit) is holds
    assert bench.finish() == (EXIT_HOLDS if holds else EXIT_FALLS_SHORT)
    assert written(bench)["holds"] is holds


def test_what_is_no_number_holds_nothing(bench: Bench) -> None:
    for op in ("<", "<=", "==", ">=", ">"):
        assert not bench.ask("nothing was measured", float("nan"), op, 1.0)


def test_unknown_operators_are_refused(bench: Bench) -> None:
    with pytest.raises(ValueError, match="no operator '=<'"):
        bench.ask("two", 2.0, "=<", 2.0)


def test_the_record_is_whole(bench: Bench, screen: io.StringIO) -> None:
    assert bench.choose("ranges", full=200, quick=40) == 200
    assert bench.measure("rate", 812.5, "ranges/s") == 812.5
    assert bench.measure("wall", Samples((3.0, 1.0, 2.0)), "s") == 2.0
    bench.ask("ranges a second", 812.5, ">=", 200)
    bench.ask("wall", 2.0, "<=", 1.5)
    assert bench.finish() == EXIT_FALLS_SHORT
    record = written(bench)
    keys = "name commit machine inputs measured reported asked holds"
    assert list(record) == keys.split()
    assert record["inputs"] == {"ranges": 200}
    assert record["measured"] == {
        "rate": {"value": 812.5, "unit": "ranges/s"},
        "wall": {"value": 2.0, "unit": "s", "rounds": [3.0, 1.0, 2.0]},
    }
    text = screen.getvalue()
    assert "holds: ranges a second: 812.5 >= 200" in text
    assert "FALLS SHORT: wall: 2 <= 1.5" in text


def test_a_quick_look_does_not_replace_the_result(tmp_path: Path, screen: io.StringIO) -> None:
    bench = Bench("sample", quick=True, results=tmp_path, console=Console(file=screen))
    assert bench.choose("ranges", full=200, quick=40) == 40
    assert bench.finish() == EXIT_HOLDS
    assert [path.name for path in tmp_path.iterdir()] == ["sample.quick.json"]


def test_quick_comes_from_the_command_line() -> None:
    assert Bench.from_command_line("sample", "About.", ["--quick"]).quick
    assert not Bench.from_command_line("sample", None, []).quick


def test_the_machine_is_described_without_its_name() -> None:
    machine = describe_machine()
    assert set(machine) == {"cpu", "cores", "memory_gib", "kernel", "python"}
    assert all(machine.values())


def test_a_commit_is_dirty_with_changes_other_than_results(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", "-C", tmp_path, *identity, *words], check=True, capture_output=True)

    assert describe_commit(tmp_path) == "unknown"
    git("init")
    (tmp_path / "bench" / "results").mkdir(parents=True)
    for name in ("code.py", "bench/results/a.json"):
        (tmp_path / name).write_text("1")
    git("add", ".")
    git("commit", "-m", "first")
    (tmp_path / "bench/results/a.json").write_text("2")
    assert not describe_commit(tmp_path).endswith("-dirty")
    (tmp_path / "code.py").write_text("2")
    assert describe_commit(tmp_path).endswith("-dirty")


def test_what_others_counted_is_reported_beside(bench: Bench, screen: io.StringIO) -> None:
    bench.report("counted at commit", "abc")
    bench.report("cannot be read", ["a.root: T", "b.root: U"])
    bench.ready()
    assert bench.finish() == EXIT_HOLDS
    content = written(bench)
    assert content["reported"] == {
        "counted at commit": "abc",
        "cannot be read": ["a.root: T", "b.root: U"],
    }
    assert content["measured"].keys() == {"all of it, after set-up"}
    assert "cannot be read: 2 (a.root: T, b.root: U)" in screen.getvalue()


def test_comparisons_with_root_are_reported_or_said_to_be_missing(
    bench: Bench, tmp_path: Path, screen: io.StringIO
) -> None:
    report_comparisons(bench, tmp_path / "none.json")
    counted = tmp_path / "counted.json"
    found = {
        "commit": "abc",
        "tests": {"passed": 7, "skipped": ["test_large"]},
        "equal": {"files": 3, "entries of trees": 1200},
        "cannot be read": {"trees that ROOT cannot read into objects": ["x.root: T"]},
    }
    counted.write_text(json.dumps(found))
    report_comparisons(bench, counted)
    bench.finish()
    said = screen.getvalue()
    assert "not counted here yet" in said
    assert "all equal: entries of trees: 1200" in said
    assert "tests that skipped: 1 (test_large)" in said
    assert "trees that ROOT cannot read into objects: 1 (x.root: T)" in said
