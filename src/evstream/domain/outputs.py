"""Outputs: what payloads leave, under names that no two attempts share."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from evstream.domain.errors import RequestError
from evstream.domain.names import LeaseId, TaskId

_STREAM = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}"
_NAME = re.compile(
    r"tasks/(?P<task>\d+)/(?P<stream>" + _STREAM + r")"
    r"/(?P<book>\d+)-(?P<chunk>\d+)-(?P<start>\d+)-(?P<stop>\d+)(?:-(?P<number>[1-9]\d*))?"
    r"\.a(?P<attempt>\d+)\.(?P<lease>[A-Za-z0-9_-]+)(?P<suffix>(?:\.[A-Za-z0-9]+)*)",
    re.ASCII,
)
LOG_STREAM = "log"


@dataclass(frozen=True, slots=True)
class OutputRecord:
    """One file in the output store, as the ledger commits it.

    Attributes
    ----------
    size : int
        Bytes.
    entries : dict of str to int
        Entries per tree, for formats that we can read; empty for others.
    """

    stream: str
    name: str
    size: int
    sha256: str
    adler32: str
    entries: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OutputName:
    """The parts of an attempt-unique name in the output store.

    Object stores cannot rename, so the name itself says which attempt under which
    lease made the file. Once that lease is gone and the name is not committed, the
    file can never become part of a result, and the sweeper may take it.

    Attributes
    ----------
    number : int
        Tells the files that one unit leaves for one stream apart; 0 for the first.
    """

    task: TaskId
    stream: str
    book: int
    chunk: int
    entry_start: int
    entry_stop: int
    attempt: int
    lease: LeaseId
    suffix: str
    number: int = 0

    def __str__(self) -> str:
        number = f"-{self.number}" if self.number else ""
        return (
            f"tasks/{self.task}/{self.stream}/{self.book}-{self.chunk}-{self.entry_start}-"
            f"{self.entry_stop}{number}.a{self.attempt}.{self.lease}{self.suffix}"
        )

    @classmethod
    def parse(cls, name: str) -> OutputName:
        """Read a name.

        Raises
        ------
        RequestError
            It is not one of ours (path traversal is refused here too).
        """
        found = _NAME.fullmatch(name)
        if found is None:
            raise RequestError(f"{name!r} is not the name of an output", name=name)
        return cls(
            task=TaskId(int(found["task"])),
            stream=found["stream"],
            book=int(found["book"]),
            chunk=int(found["chunk"]),
            entry_start=int(found["start"]),
            entry_stop=int(found["stop"]),
            attempt=int(found["attempt"]),
            lease=LeaseId(found["lease"]),
            suffix=found["suffix"],
            number=int(found["number"] or 0),
        )


def check_stream_name(stream: str) -> str:
    """Return a stream name if it can be part of an output's name."""
    if not re.fullmatch(_STREAM, stream) or stream == LOG_STREAM:
        raise RequestError(
            f"{stream!r} cannot name an output stream",
            hint="use letters, digits, '.', '_' and '-'; 'log' is taken",
        )
    return stream
