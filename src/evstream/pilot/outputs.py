"""Outputs: checked where they were made, stored under their attempt's own name."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from evstream import rootio
from evstream.client import Service
from evstream.domain.errors import ConfigError, DataError, EvstreamError
from evstream.domain.outputs import OutputRecord
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

    async def store(self, slot: OutputSlot, path: Path) -> OutputRecord:
        """Check an output, store it, and return what is to be committed.

        Raises
        ------
        DataError
            It is missing, empty, no regular file, or cannot be read.
        EvstreamError
            The store refuses it, or stayed away.
        """
        check_file(path)
        entries: dict[str, int] = {}
        file_format = self._tools.formats.of_file_name(path.name)
        if file_format is not None:
            entries = await self._tools.offload(lambda: count_entries(path, file_format))
        stored = await patiently(
            self._clock,
            self._ids,
            self._settings.lease_s,
            lambda: self._service.upload(slot.url, path),
        )
        return OutputRecord(
            slot.stream, slot.name, stored.size, stored.sha256, stored.adler32, entries
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


def check_file(path: Path) -> None:
    """Refuse what is not a regular file with something in it.

    Links are refused too: what they point at may change or vanish.
    """
    hint = "the payload must write the file that {output} names"
    try:
        status = path.lstat()
    except FileNotFoundError:
        raise DataError("the payload left no output", hint=hint) from None
    if not stat.S_ISREG(status.st_mode):
        raise DataError("the output is not a regular file", hint=hint)
    if status.st_size == 0:
        raise DataError("the output is empty", hint=hint)


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
