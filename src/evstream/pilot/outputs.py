"""Outputs: checked where they were made, stored under their attempt's own name.

Small ones are left to the report: the service stores them as it reads it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import zlib
from collections import Counter
from collections.abc import Awaitable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from evstream import rootio
from evstream.client import Service
from evstream.domain.errors import ConfigError, ConflictError, DataError, EvstreamError
from evstream.domain.outputs import OutputRecord
from evstream.domain.streams import FILES_PER_STREAM_MAX, OUTPUT_STREAM
from evstream.pilot.concurrency import in_time, patiently
from evstream.pilot.in_hand import Work
from evstream.pilot.settings import PilotSettings
from evstream.pilot.spotting import FileState, Spotted
from evstream.pilot.tools import Tools
from evstream.pilot.unit_files import LOG_NAME, OutputFile, find_files
from evstream.ports import Clock, Format, Ids, Stored
from evstream.wire.work_messages import OutputSlot

_LOG = logging.getLogger(__name__)

LOG_BYTES_MAX = 256 * 1024
LOG_S_MAX = 30.0
SPOT_EVERY_S = 1.0
SENT_EARLY_MAX = 3
"""So often a file is sent while its payload runs, should it change after all."""
NAMES_PER_PLACE = 3
"""So many names are tried in one place, where each is found taken."""
SIGNED = ("http://", "https://")
"""Places that begin so are good for one name, at which the same bytes replace the same bytes."""


@dataclass(frozen=True, slots=True)
class Left:
    """What a unit left.

    Attributes
    ----------
    records : list of OutputRecord
        To be committed: stream by stream, those of one stream in the order of their names.
    contents : dict of str to bytes
        What is to go with the report, by name; all else is stored.
    md5 : dict of str to str
        Of what was written past the service, by name: it may be all that the store can tell.
    """

    records: list[OutputRecord]
    contents: dict[str, bytes] = field(default_factory=dict)
    md5: dict[str, str] = field(default_factory=dict)


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

    async def send_early(
        self,
        slots: Sequence[OutputSlot],
        directory: Path,
        sent: SentEarly,
        besides: Collection[str] = (),
    ) -> None:
        """Send files as they become complete, by what their streams say, until cancelled.

        They must be readable, too. Should one change after all, it is sent again: what is
        stored early is part of the result only if the file is still the same at the end.

        Parameters
        ----------
        besides : collection of str
            Names of files that are not the payload's: its inputs.
        """
        spotted = Spotted()
        while True:
            await self._clock.sleep(SPOT_EVERY_S)
            for file in spotted.complete(slots, directory, self._clock.monotonic(), besides):
                # Whatever is wrong with it shows again at the end, and is told then.
                if not sent.worth(file):
                    continue
                with suppress(EvstreamError, OSError):
                    state = FileState.of(file.path)
                    record = await self._send(file, sent, await self._entries(file))
                    sent.records[file.path] = state, record

    async def store(
        self,
        slots: Sequence[OutputSlot],
        directory: Path,
        sent: SentEarly | None = None,
        bundle_bytes: int = 0,
    ) -> Left:
        """Check what a unit left, and store what is not small.

        Parameters
        ----------
        sent : SentEarly, optional
            What was stored while the payload ran.
        bundle_bytes : int
            What counts as small, if that is more than it is for all tasks.

        Raises
        ------
        DataError
            It is missing, empty, no regular file, or cannot be read.
        EvstreamError
            The store refuses it, or stayed away.
        """
        sent = sent or SentEarly()
        found = find_files(slots, directory)
        known = {file.path: sent.record(file.path) for file in found}
        # All are looked at before any is sent: a unit with a bad one has failed.
        fresh = [file for file in found if known[file.path] is None]
        entries = {file.path: await self._entries(file) for file in fresh}
        contents: dict[str, bytes] = {}
        small_max = max(self._settings.inline_bytes_max, bundle_bytes)
        small = sum(file.path.stat().st_size for file in fresh) <= small_max
        for file in fresh:
            if small:
                numbered = sent.number(file)
                contents[numbered.name] = content = file.path.read_bytes()
                record = _describe(numbered, content, entries[file.path])
            else:
                record = await self._send(file, sent, entries[file.path])
            known[file.path] = record
        records = [record for record in known.values() if record is not None]
        md5 = {one.name: sent.md5[one.name] for one in records if one.name in sent.md5}
        return Left(records, contents, md5)

    async def _entries(self, file: OutputFile) -> dict[str, int]:
        check_file(file.path, file.slot.stream)
        file_format = self._tools.formats.of_file_name(file.path.name)
        if file_format is None:
            return {}
        return await self._tools.offload(lambda: count_entries(file.path, file_format))

    async def _send(
        self, file: OutputFile, sent: SentEarly, entries: dict[str, int]
    ) -> OutputRecord:
        """Store a file: past the service where that can be, else by the service."""
        numbered = sent.number(file)
        for place in range(len(numbered.places)):
            # A part of it may be there under its name, which cannot be overwritten.
            for _ in range(NAMES_PER_PLACE):
                if place >= len(numbered.places) or self._tools.writer is None:
                    break
                try:
                    stored = await self._write(numbered.places[place], numbered.path)
                except ConflictError:
                    numbered = sent.number(file)
                    continue
                except EvstreamError as error:
                    _LOG.warning("%s goes another way: %s", numbered.name, error)
                    if not numbered.places[place].startswith(SIGNED):
                        # A part of it may be there, and be taken for it when that store is back.
                        numbered = sent.number(file)
                    break
                sent.md5[numbered.name] = stored.md5
                return _record(numbered, stored.size, stored.sha256, stored.adler32, entries)
        stored_by = await patiently(
            self._clock,
            self._ids,
            self._settings.lease_s,
            lambda: self._service.upload(numbered.url, numbered.path),
        )
        return _record(numbered, stored_by.size, stored_by.sha256, stored_by.adler32, entries)

    async def _write(self, place: str, path: Path) -> Stored:
        writer = self._tools.writer
        assert writer is not None
        seconds = self._settings.store_s_max
        until = self._clock.monotonic() + seconds

        def write() -> Awaitable[Stored]:
            return writer.write(place, path, max(0.0, until - self._clock.monotonic()))

        return await patiently(self._clock, self._ids, seconds, write)

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


class SentEarly:
    """What was stored of a unit while its payload ran, and which numbers were given.

    Attributes
    ----------
    records : dict of Path to (FileState, OutputRecord)
    md5 : dict of str to str
        Of what was written past the service, by name.
    """

    def __init__(self) -> None:
        self.records: dict[Path, tuple[FileState, OutputRecord]] = {}
        self.md5: dict[str, str] = {}
        self._given = Counter[str]()
        self._times = Counter[Path]()

    def worth(self, file: OutputFile) -> bool:
        """Whether to send a file while the payload runs.

        One that changes whenever it was sent is better sent at the end; and enough numbers
        are left for what is there then.
        """
        self._times[file.path] += 1
        few = self._given[file.slot.stream] < FILES_PER_STREAM_MAX // 2
        return few and self._times[file.path] <= SENT_EARLY_MAX

    def number(self, file: OutputFile) -> OutputFile:
        """Give a file the next number of its stream; none is given twice."""
        number = self._given[file.slot.stream]
        if number >= FILES_PER_STREAM_MAX:
            raise DataError(
                f"files of stream {file.slot.stream!r} changed too often after they were complete",
                hint="have the payload rename files to their names once they are whole",
            )
        self._given[file.slot.stream] += 1
        return replace(file, number=number)

    def record(self, path: Path) -> OutputRecord | None:
        """Return what was stored of a file, if it is still the same."""
        state, record = self.records.get(path, (None, None))
        with suppress(FileNotFoundError):
            if state is not None and state == FileState.of(path):
                return record
        return None


def _describe(file: OutputFile, content: bytes, entries: dict[str, int]) -> OutputRecord:
    digests = hashlib.sha256(content).hexdigest(), f"{zlib.adler32(content):08x}"
    return _record(file, len(content), *digests, entries)


def _record(
    file: OutputFile, size: int, sha256: str, adler32: str, entries: dict[str, int]
) -> OutputRecord:
    return OutputRecord(file.slot.stream, file.name, size, sha256, adler32, entries)


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
