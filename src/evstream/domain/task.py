"""Tasks: a dataset, a payload and a granularity; what becomes of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from msgspec import Struct

from evstream.domain.errors import LimitError, RequestError
from evstream.domain.granularity import Granularity
from evstream.domain.names import DatasetName, TaskId
from evstream.domain.payload import Payload, check_output_named
from evstream.domain.splitting import check_events_per_range
from evstream.domain.states import TaskState
from evstream.domain.streams import OutputStream, check_streams


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """When a range is given up.

    Attributes
    ----------
    failures_max : int
        A range that has failed so often by itself is set aside.
    losses_max : int
        So is one whose worker was lost so often while it ran.
    """

    failures_max: int = 3
    losses_max: int = 30

    def check(self) -> None:
        """Refuse what cannot work, naming the field.

        Raises
        ------
        LimitError
        """
        for name in self.__struct_fields__:
            if getattr(self, name) <= 0:
                raise LimitError(
                    f"{name} is {getattr(self, name)}",
                    hint="give a number above 0",
                    field=f"limits.{name}",
                )


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """What somebody asks for.

    Attributes
    ----------
    branches : tuple of str or None
        Branches that the payload needs, by name; None for all.
    granularity : Granularity
        As it was asked for.
    events_per_range : int
        What came of it. Where ranges go by time, the events of the cells that ranges are
        made of.
    """

    name: str
    dataset: DatasetName
    tree: str
    payload: Payload
    branches: tuple[str, ...] | None = None
    granularity: Granularity = Granularity()
    events_per_range: int = 10_000
    outputs: tuple[OutputStream, ...] = (OutputStream(),)
    limits: Limits = Limits()

    @property
    def merges(self) -> bool:
        """Whether any output is merged."""
        return any(stream.merge for stream in self.outputs)

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
        self.granularity.check()
        check_events_per_range(self.events_per_range)
        self.payload.check()
        self.limits.check()
        check_streams(self.outputs)
        first = self.outputs[0]
        if not first.pattern and not first.optional:
            check_output_named(self.payload.command, first.name)


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
