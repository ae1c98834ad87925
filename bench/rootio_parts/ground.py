"""One file, and what evstream and the others do with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.harness import Bench, Samples
from bench.rootio_parts.inputs import Kind
from bench.rootio_parts.peers import Cost, Peers, timed
from bench.rootio_parts.worker import write_cut
from evstream import rootio

COPY_BYTES = 1 << 20
FIRST_BYTES = 65_536
# What takes seconds is not repeated in its process: its first use is a small part of it.
LONG_ENTRIES = 100_000


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn cost: the first time in a process, and repeated in it if it was."""

    first: Cost
    again: Cost | None = None


class Medians:
    """What each subject took, by the clock and of CPU."""

    def __init__(self, wall: Mapping[str, Samples], cpu: Mapping[str, Samples]) -> None:
        self.wall, self.cpu = wall, cpu

    def ratios(self, one: str, other: str) -> tuple[float, float]:
        """Divide what one took by what the other took: by the clock, and of CPU."""
        wall, cpu = (s[one].median / s[other].median for s in (self.wall, self.cpu))
        return wall, cpu


def in_turn(
    bench: Bench, what: str, subjects: Mapping[str, Callable[[], Turn]], rounds: int
) -> tuple[Medians, Medians | None]:
    """Run subjects turn by turn; note and return what the first and the repeated runs took."""
    turns: dict[str, list[Turn]] = {name: [] for name in subjects}

    def run(name: str) -> float:
        turns[name].append(subjects[name]())
        return turns[name][-1].first.wall_s

    bench.interleave({name: partial(run, name) for name in subjects}, rounds)
    first = {name: [turn.first for turn in row] for name, row in turns.items()}
    again = {
        name: [turn.again for turn in row if turn.again is not None] for name, row in turns.items()
    }
    medians = _medians(bench, what, first)
    repeated = _medians(bench, f"{what}, repeated", again) if all(again.values()) else None
    return medians, repeated


def _medians(bench: Bench, what: str, costs: Mapping[str, Sequence[Cost]]) -> Medians:
    wall = {name: Samples(tuple(c.wall_s for c in row)) for name, row in costs.items()}
    cpu = {name: Samples(tuple(c.cpu_s for c in row)) for name, row in costs.items()}
    for name in costs:
        bench.measure(f"{what}: {name}, wall", wall[name], "s")
        bench.measure(f"{what}: {name}, CPU", cpu[name], "s")
    return Medians(wall, cpu)


@dataclass(frozen=True, slots=True)
class Ground:
    """One file, those who work on it, and where they write."""

    bench: Bench
    peers: Peers
    kind: Kind
    path: Path
    folder: Path

    def _out(self) -> Path:
        # Removed before the clock runs: nobody pays for the product before.
        path = self.folder / "out.root"
        path.unlink(missing_ok=True)
        return path

    def _in_process(
        self, who: str, words: Callable[[Path], Sequence[str | int | Path]], entries: int | None
    ) -> Turn:
        """Have a request done in a process of its own, and once more unless that takes long."""
        with self.peers.fresh(who) as peer:
            first = peer.ask(*words(self._out()), entries=entries)
            if self.bench.quick or (entries or 0) >= LONG_ENTRIES:
                return Turn(first)
            return Turn(first, peer.ask(*words(self._out()), entries=entries))

    def cut(self, who: str, what: str, begin: int, stop: int) -> Turn:
        """Have a range of entries written.

        Parameters
        ----------
        who, what : str
            "evstream" does "cut" and "cut_indexed", "root" "clone" and "snapshot",
            "uproot" "uproot".
        """
        head = (what, self.path, self.kind.tree, begin, stop)
        return self._in_process(who, lambda out: (*head, out), stop - begin)

    def select(self, who: str, mask: npt.NDArray[np.bool_]) -> Turn:
        """Have the entries that a mask chooses written, by "evstream" or "root"."""
        file = self.folder / "mask"
        file.write_bytes(mask.tobytes())
        head = ("select", self.path, self.kind.tree, file)
        return self._in_process(who, lambda out: (*head, out), int(np.count_nonzero(mask)))

    def join(self, who: str, what: str, parts: Sequence[Path]) -> Turn:
        """Have files joined: "evstream" does "join" and "join_indexed", "root" "merge"."""
        return self._in_process(who, lambda out: (what, out, *parts), None)

    # --- in this process, which has done it before --------------------------------

    def cut_here(self, index: rootio.SourceIndex, begin: int, stop: int) -> Turn:
        """Cut with the index at hand."""
        out, tree = self._out(), self.kind.tree
        return Turn(timed(lambda: write_cut(index, str(self.path), tree, (begin, stop), str(out))))

    def first_bytes(self, index: rootio.SourceIndex, begin: int, stop: int) -> Turn:
        """Go as far as a product's first bytes."""
        tree = self.kind.tree

        def work() -> None:
            with rootio.FileSource(self.path) as source:
                cut = rootio.plan_cut(index, tree=tree, entry_start=begin, entry_stop=stop)
                cut.prepare(source)
                cut.read(0, FIRST_BYTES, source)

        return Turn(timed(work))

    def copy(self, size: int) -> Turn:
        """Copy so many bytes of the file through a buffer."""
        out = self._out()

        def work() -> None:
            left = size
            buffer = memoryview(bytearray(COPY_BYTES))
            with self.path.open("rb", buffering=0) as read, out.open("wb", buffering=0) as write:
                while left:
                    left -= write.write(buffer[: read.readinto(buffer[:left])])

        return Turn(timed(work))
