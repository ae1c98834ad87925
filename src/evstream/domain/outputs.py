"""Outputs: what payloads leave, under names that no two attempts share."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from evstream.domain.errors import LimitError, RequestError
from evstream.domain.names import LeaseId, TaskId

_STREAM = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}"
_NAME = re.compile(
    r"tasks/(?P<task>\d+)/(?P<stream>" + _STREAM + r")"
    r"/(?P<book>\d+)-(?P<chunk>\d+)-(?P<start>\d+)-(?P<stop>\d+)(?:-(?P<number>[1-9]\d*))?"
    r"\.a(?P<attempt>\d+)\.(?P<lease>[A-Za-z0-9_-]+)"
    r"(?:~(?P<bundle>[0-9a-f]{32})-(?P<offset>\d+)-(?P<size>\d+))?"
    r"(?P<suffix>(?:\.[A-Za-z0-9]+)*)",
    re.ASCII,
)
_AT_END = re.compile(rf"(?<![^/])(?:{_NAME.pattern})\Z", re.ASCII)
_OF_TASK = re.compile(r"tasks/([0-9]{1,18})/")
_BUNDLE = re.compile(r"tasks/(?P<task>\d+)/bundles/(?P<digest>[0-9a-f]{32})", re.ASCII)
LOG_STREAM = "log"
BUNDLE_BYTES_MAX = 256 << 10
"""Outputs of a unit that have more together are no small ones."""


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
class BundleName:
    """The name of an object that holds small outputs of one task, one behind the other.

    Attributes
    ----------
    digest : str
        32 hex digits, of what is in it and of whose outputs they are.
    """

    task: TaskId
    digest: str

    def __str__(self) -> str:
        return f"tasks/{self.task}/bundles/{self.digest}"

    @classmethod
    def parse(cls, name: str) -> BundleName | None:
        """Read a name; None if it is no bundle's."""
        found = _BUNDLE.fullmatch(name)
        return None if found is None else cls(TaskId(int(found["task"])), found["digest"])


@dataclass(frozen=True, slots=True)
class Inside:
    """Where in a bundle an output is: bytes from an offset on."""

    bundle: BundleName
    offset: int
    size: int


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
    inside : Inside or None
        Where it is, if it is no object of its own. Whoever reads it needs no more than the name.
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
    inside: Inside | None = None

    def __str__(self) -> str:
        number = f"-{self.number}" if self.number else ""
        inside = ""
        if self.inside is not None:
            inside = f"~{self.inside.bundle.digest}-{self.inside.offset}-{self.inside.size}"
        return (
            f"tasks/{self.task}/{self.stream}/{self.book}-{self.chunk}-{self.entry_start}-"
            f"{self.entry_stop}{number}.a{self.attempt}.{self.lease}{inside}{self.suffix}"
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
        task = TaskId(int(found["task"]))
        inside = None
        if found["bundle"] is not None:
            bundle = BundleName(task, found["bundle"])
            inside = Inside(bundle, int(found["offset"]), int(found["size"]))
        return cls(
            task=task,
            stream=found["stream"],
            book=int(found["book"]),
            chunk=int(found["chunk"]),
            entry_start=int(found["start"]),
            entry_stop=int(found["stop"]),
            attempt=int(found["attempt"]),
            lease=LeaseId(found["lease"]),
            suffix=found["suffix"],
            number=int(found["number"] or 0),
            inside=inside,
        )


def task_in(name: str) -> TaskId | None:
    """Return the task among whose objects a name of the store is; None if it is among none's."""
    found = _OF_TASK.match(name)
    return None if found is None else TaskId(int(found[1]))


def place_of(name: str) -> tuple[str, Inside | None]:
    """Return the name of the object that an output is in, and where in it.

    Parameters
    ----------
    name : str
        In the store, or there and with whatever stands before it: a physical name.

    Returns
    -------
    (str, Inside or None)
        The same name, and None, of what is an object of its own.
    """
    if "~" not in name:
        return name, None
    found = _AT_END.search(name)
    inside = None if found is None else OutputName.parse(found[0]).inside
    if found is None or inside is None:
        return name, None
    return f"{name[: found.start()]}{inside.bundle}", inside


def check_bundle_bytes(bundle_bytes: int) -> None:
    """Refuse a size up to which outputs are stored together that cannot work.

    Raises
    ------
    LimitError
    """
    if not 0 <= bundle_bytes <= BUNDLE_BYTES_MAX:
        raise LimitError(
            f"bundle_bytes is {bundle_bytes}",
            hint=f"give 0 to {BUNDLE_BYTES_MAX}: what is larger is an object by itself",
            field="bundle_bytes",
        )


def check_stream_name(stream: str) -> str:
    """Return a stream name if it can be part of an output's name."""
    if not re.fullmatch(_STREAM, stream) or stream == LOG_STREAM:
        raise RequestError(
            f"{stream!r} cannot name an output stream",
            hint="use letters, digits, '.', '_' and '-'; 'log' is taken",
        )
    return stream
