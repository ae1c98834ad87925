"""Tasks: a dataset, a payload and a granularity; what becomes of them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from datetime import datetime

from evstream.domain.errors import LimitError, RequestError
from evstream.domain.names import DatasetName, TaskId
from evstream.domain.splitting import check_events_per_range
from evstream.domain.states import TaskState

PLACEHOLDERS = ("input", "output", "entry_start", "entry_stop", "range_id")
MERGEABLE_SUFFIXES = (
    ".root",
    ".parquet",
    ".pq",
    ".h5",
    ".hdf5",
    ".lhe",
    ".lhe.gz",
    ".hepmc",
    ".hepmc.gz",
    ".hepmc2",
    ".hepmc3",
    ".hepmc2.gz",
    ".hepmc3.gz",
)
"""Of formats that can be joined; a test compares them with the formats' own."""
OUTPUT_STREAM = "output"
OUTPUT_SUFFIX_CHARS_MAX = 32
"""With the rest of an output's name it must fit into a file's, 255 bytes."""


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """What somebody asks for.

    Attributes
    ----------
    branches : tuple of str or None
        Branches that the payload needs, by name; None for all.
    payload : str
        Command line with ``{input}``, ``{output}``, ``{entry_start}``,
        ``{entry_stop}`` and ``{range_id}``, run once per range without a shell.
    payload_s_max : float
        Wall seconds after which a payload counts as hung.
    """

    name: str
    dataset: DatasetName
    tree: str
    payload: str
    branches: tuple[str, ...] | None = None
    events_per_range: int = 10_000
    output_suffix: str = ".root"
    merge: bool = False
    payload_s_max: float = 3600.0
    failures_max: int = 3
    losses_max: int = 30

    def check(self) -> None:
        """Refuse what cannot work, naming the field.

        Raises
        ------
        LimitError, RequestError
        """
        if not self.name.strip() or not self.name.isprintable():
            raise RequestError(
                f"{self.name!r} cannot name a task", hint="use characters that can be printed"
            )
        check_events_per_range(self.events_per_range)
        split_command(self.payload)
        for name in ("payload_s_max", "failures_max", "losses_max"):
            if getattr(self, name) <= 0:
                raise LimitError(
                    f"{name} is {getattr(self, name)}",
                    hint="give a number above 0",
                    field=name,
                )
        suffix = self.output_suffix
        if len(suffix) > OUTPUT_SUFFIX_CHARS_MAX:
            raise LimitError(
                f"the output suffix has {len(suffix)} characters",
                hint=f"give one of at most {OUTPUT_SUFFIX_CHARS_MAX}, such as .root",
                field="output_suffix",
            )
        if not re.fullmatch(r"(\.[A-Za-z0-9]+)+", suffix):
            raise RequestError(
                f"output suffix {suffix!r} is not one",
                hint="give one such as .root or .txt",
            )
        if self.merge and suffix not in MERGEABLE_SUFFIXES:
            raise RequestError(
                f"outputs in {suffix} cannot be merged",
                hint=f"leave --merge out, or write {', '.join(MERGEABLE_SUFFIXES)}",
            )


def split_command(payload: str) -> list[str]:
    """Split a payload's command line as a shell splits words, without running one.

    Raises
    ------
    RequestError
        It is empty, its quotes are not closed, or it never names ``{output}``.
    """
    try:
        words = shlex.split(payload)
    except ValueError as error:
        raise RequestError(
            f"payload {payload!r} is no command line: {error}", hint="close its quotes"
        ) from error
    if not words:
        raise RequestError("the payload is empty", hint="give a command line")
    if not any("{output}" in word for word in words):
        raise RequestError(
            "the payload never names {output}",
            hint="pass it where the program takes its output file, as in 'cp {input} {output}'",
        )
    return words


def fill_command(words: list[str], values: dict[str, str]) -> list[str]:
    """Put values in the place of ``{name}``; other braces stay as they are."""
    # In one pass: a value that holds braces is no placeholder.
    return [
        re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), word) for word in words
    ]


@dataclass(frozen=True, slots=True)
class Task:
    """A task as the catalogue keeps it.

    Attributes
    ----------
    request_id : str
        Whoever submits twice under one id gets the same task.
    """

    id: TaskId
    spec: TaskSpec
    state: TaskState
    request_id: str
    created: datetime
    ended: datetime | None = None
    reason: str = ""
    streams: tuple[str, ...] = (OUTPUT_STREAM,)


def process_book(task: TaskId) -> int:
    """Return the ledger book of a task's event ranges."""
    return 2 * task


def merge_book(task: TaskId) -> int:
    """Return the ledger book of a task's merges; a chunk per stream, an entry a merge."""
    return 2 * task + 1


def task_of(book: int) -> TaskId:
    """Return the task that a book belongs to."""
    return TaskId(book // 2)


def is_merge(book: int) -> bool:
    """Whether a book's units are merges."""
    return book % 2 == 1
