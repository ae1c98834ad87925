"""A payload that burns CPU and keeps its own account of it, also of what it did not finish.

`python -m bench.wan_parts.burn` is run by pilots. Each attempt has a file of its own in the folder
`BURN_LOG`, with a line when it begins, now and then, and when it ends.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evstream.payload import Unit

EVERY_S = 0.05
"""CPU seconds between lines: so much may be missing from the account of a killed one."""


@dataclass(frozen=True, slots=True)
class Burnt:
    """What one attempt has done.

    Attributes
    ----------
    name : str
        Of the attempt; its output has it too, if there is one.
    above : tuple of int
        Processes that it ran under.
    began, last : float
        Unix time of the first line and of the last.
    cpu_s : float
        At the last line.
    """

    name: str
    above: tuple[int, ...]
    began: float
    last: float
    cpu_s: float
    ended: bool


def read_log(path: Path) -> Burnt | None:
    """Return what an attempt has written; None if it was killed before a whole line."""
    whole, _, _ = path.read_text().rpartition("\n")
    lines = [json.loads(line) for line in whole.splitlines()]
    if not lines:
        return None
    first, last = lines[0], lines[-1]
    return Burnt(
        path.name, tuple(first["above"]), first["time"], last["time"], last["cpu_s"], last["ended"]
    )


def initialise() -> None:
    """Load what reads."""
    import psutil  # noqa: F401
    import uproot  # noqa: F401


def process(unit: Unit) -> None:
    """Burn CPU for a range; its output is its name and the numbers of its events."""
    import psutil
    import uproot

    # One that was killed as it began is given to another as the same attempt.
    name = f"{unit.range_id}.{os.getpid()}"
    path = Path(os.environ["BURN_LOG"]) / name
    # Not Python's: a line is there once it is written, whatever comes then.
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    above = [one.pid for one in psutil.Process().parents()]
    began = time.process_time()

    def note(*, ended: bool = False) -> float:
        cpu_s = time.process_time() - began
        line = {"time": time.time(), "cpu_s": cpu_s, "ended": ended, "above": above}
        os.write(log, json.dumps(line).encode() + b"\n")
        return cpu_s

    cpu_s, until = note(), float(os.environ["BURN_S"])
    with uproot.open(unit.input) as file:
        numbers = file[unit.tree]["number"].array(library="np").tolist()
    while cpu_s < until:
        pause = min(until, cpu_s + EVERY_S)
        while time.process_time() - began < pause:
            sum(range(2000))
        cpu_s = note()
    unit.output.write_text(json.dumps({"name": name, "numbers": numbers}))
    note(ended=True)
    os.close(log)


if __name__ == "__main__":
    from evstream.payload import serve

    serve(process, initialise)
