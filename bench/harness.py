"""What every benchmark shares: rounds, medians, limits, and one JSON file a name.

A benchmark is a module ``bench/NAME.py`` that runs as ``python -m bench.NAME [--quick]``::

    def main() -> int:
        bench = Bench.from_command_line("overhead", __doc__)
        ranges = bench.choose("ranges", full=200, quick=40)
        wall = bench.interleave({"bare": run_bare, "evstream": run_evstream}, rounds=5)
        ratio = wall["evstream"].median / wall["bare"].median
        bench.measure("ratio", ratio, "1")
        bench.ask("wall against the bare payload", ratio, "<=", 1.05)
        return bench.finish()
"""

from __future__ import annotations

import argparse
import json
import operator
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table

from bench.machine import describe_commit, describe_machine

RESULTS = Path(__file__).resolve().parent / "results"
EXIT_HOLDS, EXIT_FALLS_SHORT = 0, 3

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    ">=": operator.ge,
    ">": operator.gt,
}

T = TypeVar("T")
Subject = Callable[[], float | None]


@dataclass(frozen=True, slots=True)
class Samples:
    """What one subject gave in each round, in the order of the rounds."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle value; one slow round does not move it."""
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """Largest less smallest value: what the machine's noise may explain."""
        return max(self.values) - min(self.values)


@dataclass(frozen=True, slots=True)
class Asked:
    """A limit that the measured value should keep."""

    text: str
    value: float
    op: str
    limit: float

    @property
    def holds(self) -> bool:
        """Whether it does. A value that is not a number never does."""
        return _OPERATORS[self.op](self.value, self.limit)


@dataclass(slots=True)
class Bench:
    """One run of one benchmark.

    Attributes
    ----------
    name : str
        Its module in ``bench`` and its file in ``bench/results``.
    quick : bool
        Smaller inputs, for a look; such results are not kept in the repository.
    """

    name: str
    quick: bool = False
    results: Path = RESULTS
    console: Console = field(default_factory=Console)
    _inputs: dict[str, Any] = field(default_factory=dict)
    _measured: dict[str, dict[str, Any]] = field(default_factory=dict)
    _asked: list[Asked] = field(default_factory=list)
    _reported: dict[str, Any] = field(default_factory=dict)
    _ready: float | None = None

    @classmethod
    def from_command_line(
        cls, name: str, about: str | None, words: Sequence[str] | None = None
    ) -> Bench:
        """Read ``--quick`` from the command line; ``about`` is the help text."""
        parser = argparse.ArgumentParser(prog=f"python -m bench.{name}", description=about)
        parser.add_argument("--quick", action="store_true", help="smaller inputs, for a look")
        return cls(name, quick=parser.parse_args(words).quick)

    def input(self, key: str, value: Any) -> None:
        """Note what is measured on: a file's name and size, a count, a seed."""
        self._inputs[key] = value

    def report(self, key: str, value: Any) -> None:
        """Note what others have counted: a text, a number, or names."""
        self._reported[key] = value

    def ready(self) -> None:
        """Say that inputs are there: what follows is timed, and noted as such."""
        self._ready = time.perf_counter()

    def choose(self, key: str, *, full: T, quick: T) -> T:
        """Return an input's full or quick value, and note which."""
        value = quick if self.quick else full
        self.input(key, value)
        return value

    def interleave(self, subjects: Mapping[str, Subject], rounds: int) -> dict[str, Samples]:
        """Run subjects turn by turn, so that a machine's slow minute meets all of them.

        Parameters
        ----------
        subjects : mapping of str to callable
            Each returns its own figure, or None to have its wall seconds taken.
        rounds : int
            How often each runs, at least 1. The order turns round with every round.
        """
        if rounds < 1:
            raise ValueError(f"rounds is {rounds}; at least 1 is needed")
        values: dict[str, list[float]] = {name: [] for name in subjects}
        for number in range(rounds):
            names = list(subjects)
            for name in reversed(names) if number % 2 else names:
                started = time.perf_counter()
                figure = subjects[name]()
                wall_s = time.perf_counter() - started
                values[name].append(wall_s if figure is None else figure)
        return {name: Samples(tuple(given)) for name, given in values.items()}

    def measure(self, key: str, value: float | Samples, unit: str) -> float:
        """Note a figure and return it; of samples, the median, with all of them beside it."""
        entry: dict[str, Any]
        if isinstance(value, Samples):
            figure = value.median
            entry = {"value": figure, "unit": unit, "rounds": list(value.values)}
        else:
            figure = value
            entry = {"value": value, "unit": unit}
        self._measured[key] = entry
        return figure

    def ask(self, text: str, value: float, op: str, limit: float) -> bool:
        """Hold a value against a limit: ``ask("ranges a second", rate, ">=", 200)``.

        Raises
        ------
        ValueError
            The operator is not one of ``<``, ``<=``, ``==``, ``>=``, ``>``.
        """
        if op not in _OPERATORS:
            raise ValueError(f"no operator {op!r}; one of {' '.join(_OPERATORS)}")
        self._asked.append(Asked(text, value, op, limit))
        return self._asked[-1].holds

    def finish(self) -> int:
        """Print the tables, write the JSON, and return the exit status.

        Returns
        -------
        int
            0 if all that was asked holds, 3 if something falls short.
        """
        if self._ready is not None:
            self.measure("all of it, after set-up", time.perf_counter() - self._ready, "s")
        holds = all(asked.holds for asked in self._asked)
        path = self.results / f"{self.name}{'.quick' if self.quick else ''}.json"
        self._write(path, holds)
        self._print(path)
        return EXIT_HOLDS if holds else EXIT_FALLS_SHORT

    def _write(self, path: Path, holds: bool) -> None:
        record = {
            "name": self.name,
            "commit": describe_commit(),
            "machine": describe_machine(),
            "inputs": self._inputs,
            "measured": self._measured,
            "reported": self._reported,
            "asked": [
                {
                    "text": asked.text,
                    "value": asked.value,
                    "op": asked.op,
                    "limit": asked.limit,
                    "holds": asked.holds,
                }
                for asked in self._asked
            ],
            "holds": holds,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        partial.replace(path)

    def _print(self, path: Path) -> None:
        measured = Table(
            title=f"{self.name}{' (quick)' if self.quick else ''}", title_justify="left"
        )
        measured.add_column("measured")
        measured.add_column("value", justify="right")
        measured.add_column("unit")
        for key, entry in self._measured.items():
            measured.add_row(key, f"{entry['value']:.5g}", entry["unit"])
        self.console.print(measured)
        for key, value in self._reported.items():
            said = (
                f"{len(value)} ({', '.join(map(str, value))})" if isinstance(value, list) else value
            )
            self._say(f"{key}: {said}")
        for asked in self._asked:
            verdict = "holds" if asked.holds else "FALLS SHORT"
            self._say(f"{verdict}: {asked.text}: {asked.value:.5g} {asked.op} {asked.limit:g}")
        self.console.print(f"written: bench/results/{path.name}", highlight=False)

    def _say(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)
