"""Outputs: checked where they were made, stored under their attempt's own name."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from evstream import rootio
from evstream.client import Service
from evstream.domain.errors import ConfigError, DataError, EvstreamError
from evstream.domain.outputs import OutputName, OutputRecord
from evstream.domain.streams import FILES_PER_STREAM_MAX, OUTPUT_STREAM
from evstream.pilot.concurrency import in_time, patiently
from evstream.pilot.in_hand import Work
from evstream.pilot.settings import PilotSettings
from evstream.pilot.tools import Tools
from evstream.ports import Clock, Format, Ids
from evstream.wire.messages import OutputSlot

LOG_BYTES_MAX = 256 * 1024
LOG_S_MAX = 30.0
LOG_NAME = "log.txt"


class OutputStage:
    """Checks outputs and sends them away."""

    def __init__(
        self, service: Service, clock: Clock, ids: Ids, tools: Tools, settings: PilotSettings
    ) -> None:
        self._service = service
        self._clock = clock
        self._ids = ids
        self._tools = tools
        self._settings = settings

    async def store(self, slots: Sequence[OutputSlot], directory: Path) -> list[OutputRecord]:
        """Check what a unit left, store it, and return what is to be committed.

        The files come stream by stream, those of one stream in the order of their names.

        Raises
        ------
        DataError
            It is missing, empty, no regular file, or cannot be read.
        EvstreamError
            The store refuses it, or stayed away.
        """
        found = find_files(slots, directory)
        # All are looked at before any is sent: a unit with a bad one has failed.
        checked = [(file, await self._entries(file)) for file in found]
        return [await self._send(file, entries) for file, entries in checked]

    async def _entries(self, file: OutputFile) -> dict[str, int]:
        check_file(file.path, file.slot.stream)
        file_format = self._tools.formats.of_file_name(file.path.name)
        if file_format is None:
            return {}
        return await self._tools.offload(lambda: count_entries(file.path, file_format))

    async def _send(self, file: OutputFile, entries: dict[str, int]) -> OutputRecord:
        stored = await patiently(
            self._clock,
            self._ids,
            self._settings.lease_s,
            lambda: self._service.upload(file.url, file.path),
        )
        return OutputRecord(
            file.slot.stream, file.name, stored.size, stored.sha256, stored.adler32, entries
        )

    async def store_log(self, work: Work, directory: Path) -> str:
        """Store the end of an attempt's log; returns its name, or "" if there is none.

        A log is help, not truth: if it cannot be sent, the report goes without it.
        """
        tail = directory / "log-tail.txt"
        try:
            if not _cut_tail(directory / LOG_NAME, tail):
                return ""
            sending = self._service.upload(work.log_url, tail)
            sent = await in_time(self._clock, LOG_S_MAX, sending)
        except (OSError, EvstreamError):
            return ""
        return work.log if sent else ""


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


def file_of(slot: OutputSlot) -> str:
    """Return the name of the one file that belongs to a stream without a pattern."""
    stream = "" if slot.stream == OUTPUT_STREAM else f"-{slot.stream}"
    return f"output{stream}{slot.suffix}"


def output_values(slots: Sequence[OutputSlot], directory: Path) -> dict[str, str]:
    """Return what the placeholders of outputs stand for: ``output`` is the first stream's."""
    told = {s.stream: str(directory / file_of(s)) for s in slots if not s.pattern}
    values = {f"output:{stream}": path for stream, path in told.items()}
    if slots[0].stream in told:
        values["output"] = told[slots[0].stream]
    return values


def find_files(slots: Sequence[OutputSlot], directory: Path) -> list[OutputFile]:
    """Return the files that belong to streams; each to the first that it can belong to.

    Raises
    ------
    DataError
        Nothing matches a stream's pattern, or too much.
    """
    others = {LOG_NAME, *(file_of(slot) for slot in slots if not slot.pattern)}
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


def check_file(path: Path, stream: str = OUTPUT_STREAM) -> None:
    """Refuse what is not a regular file with something in it.

    Links are refused too: what they point at may change or vanish.
    """
    placeholder = "output" if stream == OUTPUT_STREAM else f"output:{stream}"
    hint = f"the payload must write the file that {{{placeholder}}} names"
    of = "" if stream == OUTPUT_STREAM else f" {path.name} of stream {stream!r}"
    try:
        status = path.lstat()
    except FileNotFoundError:
        raise DataError(f"the payload left no output{of}", hint=hint) from None
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"the output{of} is not a regular file", hint=hint)
    if status.st_size == 0:
        raise DataError(f"the output{of} is empty", hint=hint)


def count_entries(path: Path, file_format: Format) -> dict[str, int]:
    """Return entries by tree of a file whose name says what format it is in. Blocking.

    Trees of metadata that merges keep once are left out.

    None of a format whose library is not installed here: payloads bring their own.

    Raises
    ------
    DataError
        It cannot be read.
    """
    with rootio.FileSource(path) as source:
        try:
            index = file_format.inspect(source)
        except ConfigError:
            return {}
        except DataError as error:
            # The hints that come with it are for inputs.
            raise type(error)(
                f"the payload's output cannot be read: {error.message}",
                hint=f"have it write {path.suffix} whole, or say what it writes: --output-suffix",
                **error.fields,
            ) from error
    return file_format.summed(index)


def _cut_tail(log: Path, tail: Path) -> bool:
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - LOG_BYTES_MAX))
            content = file.read(LOG_BYTES_MAX)
    except FileNotFoundError:
        return False
    tail.write_bytes(content)
    return bool(content)
