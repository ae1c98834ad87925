"""Files in a unit's directory: what they are called, and which stream they belong to."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from evstream.domain.errors import DataError
from evstream.domain.outputs import OutputName
from evstream.domain.streams import FILES_PER_STREAM_MAX, OUTPUT_STREAM
from evstream.wire.messages import DeliveryPlan
from evstream.wire.work_messages import OutputSlot, RangeUnit

LOG_NAME = "log.txt"


@dataclass(frozen=True, slots=True)
class RangeFiles:
    """What the files of one of a unit's ranges are called in its directory.

    Attributes
    ----------
    secondary : dict of str to tuple of str
        By the name of the secondary input.
    """

    input: str
    secondary: dict[str, tuple[str, ...]]

    @property
    def names(self) -> list[str]:
        """All of them."""
        return [self.input, *(name for several in self.secondary.values() for name in several)]


def files_of(work: RangeUnit) -> list[RangeFiles]:
    """Return what the files of a unit's ranges are called, range by range."""
    found = []
    for number, part in enumerate(work.parts):
        which = f"-{number}" if len(work.parts) > 1 else ""
        secondary = {
            wanted.name: tuple(
                f"secondary{which}-{wanted.name}-{n}.{_format_of(plan)}"
                for n, plan in enumerate(wanted.plans)
            )
            for wanted in part.secondary
        }
        found.append(RangeFiles(f"input{which}.{_format_of(part.plan)}", secondary))
    return found


def _format_of(plan: DeliveryPlan) -> str:
    return str(plan.descriptor.get("format", "root"))


@dataclass(frozen=True, slots=True)
class OutputFile:
    """One file that a unit left, and where it goes."""

    slot: OutputSlot
    path: Path
    number: int = 0

    @property
    def name(self) -> str:
        """Its name in the output store."""
        if not self.number:
            return self.slot.name
        return str(replace(OutputName.parse(self.slot.name), number=self.number))

    @property
    def url(self) -> str:
        """Where it is PUT to."""
        return f"{self.slot.url}&n={self.number}" if self.number else self.slot.url

    @property
    def places(self) -> list[str]:
        """Where it may be written past the service, the best first."""
        return places_as(self.slot, self.name)


def places_as(slot: OutputSlot, name: str) -> list[str]:
    """Return a slot's places for a file of another name; a signed one is good for its own alone."""
    if name == slot.name:
        return slot.places
    end = f"/{slot.name}"
    return [f"{p.removesuffix(end)}/{name}" for p in slot.places if p.endswith(end)]


def file_of(slot: OutputSlot) -> str:
    """Return the name of the one file that belongs to a stream without a pattern."""
    stream = "" if slot.stream == OUTPUT_STREAM else f"-{slot.stream}"
    return f"output{stream}{slot.suffix}"


def output_bytes(slots: Sequence[OutputSlot], directory: Path) -> int:
    """Return how much a unit has left for its streams; what cannot be told is nothing."""
    try:
        return sum(file.path.lstat().st_size for file in find_files(slots, directory))
    except (DataError, OSError):
        # Whatever is wrong is told when they are stored.
        return 0


def output_values(slots: Sequence[OutputSlot], directory: Path) -> dict[str, str]:
    """Return what the placeholders of outputs stand for: ``output`` is the first stream's."""
    told = {s.stream: str(directory / file_of(s)) for s in slots if not s.pattern}
    values = {f"output:{stream}": path for stream, path in told.items()}
    if slots[0].stream in told:
        values["output"] = told[slots[0].stream]
    return values


def find_files(
    slots: Sequence[OutputSlot], directory: Path, besides: Collection[str] = ()
) -> list[OutputFile]:
    """Return the files that belong to streams; each to the first that it can belong to.

    Parameters
    ----------
    besides : collection of str
        Names of files that are not the payload's: its inputs.

    Raises
    ------
    DataError
        Nothing matches a stream's pattern, or too much; or the payload removed its directory.
    """
    others = {LOG_NAME, *besides, *(file_of(slot) for slot in slots if not slot.pattern)}
    if not directory.is_dir() and directory.parent.is_dir():
        raise DataError("the payload removed its directory", hint="it must leave its outputs there")
    names = sorted({path.name for path in directory.iterdir()} - others)
    found: list[OutputFile] = []
    for slot in slots:
        if not slot.pattern:
            path = directory / file_of(slot)
            if not slot.optional or os.path.lexists(path):
                found.append(OutputFile(slot, path))
            continue
        matching = [name for name in names if fnmatchcase(name, slot.pattern)]
        names = [name for name in names if name not in matching]
        if not matching and not slot.optional:
            raise DataError(
                f"the payload left no file that matches {slot.pattern!r}",
                hint=f"it must write files for stream {slot.stream!r} in its working directory",
            )
        if len(matching) > FILES_PER_STREAM_MAX:
            raise DataError(
                f"the payload left {len(matching)} files that match {slot.pattern!r}",
                hint=f"at most {FILES_PER_STREAM_MAX} can be of one unit and stream",
            )
        found += [OutputFile(slot, directory / n, k) for k, n in enumerate(matching)]
    return found
