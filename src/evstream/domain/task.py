"""Tasks: a dataset, a payload and a granularity; what becomes of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from msgspec import Struct

from evstream.domain.errors import ConflictError, LimitError, RequestError
from evstream.domain.granularity import Granularity
from evstream.domain.ledger import BookRules, Place, Progress
from evstream.domain.names import DatasetName, TaskId, WorkerId
from evstream.domain.outputs import check_bundle_bytes
from evstream.domain.payload import Payload, check_output_named
from evstream.domain.preparation import Preparation
from evstream.domain.scheduling import Scheduling
from evstream.domain.secondary import Secondary, check_secondary
from evstream.domain.splitting import Chunk, check_events_per_range, count_units
from evstream.domain.states import TaskState
from evstream.domain.streams import OutputStream, check_outputs_named, check_streams
from evstream.domain.words import counted

TASK_SCOPE = "task"
"""Of the datasets that chained tasks make of what they take."""
PARENTS_MAX = 100
"""Tasks whose outputs one takes, at most."""
BISECTIONS_PER_RANGE = 10
"""Bisections that a task may make on average, unless it says otherwise."""
BISECTIONS_MIN = 1000
"""A small task may make so many: each bad event takes one for every halving of its range."""


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """When a range is given up, and when the task.

    Attributes
    ----------
    failures_max : int
        A range that has failed so often by itself is set aside, bisected if it can be.
    losses_max : int
        So is one whose worker was lost so often while it ran.
    bisections_max : int or None
        How many bisections the task may make; then ranges are set aside whole. 0: none.
        None: ten for each of its ranges, and 1000 at least.
    give_up_after : int
        So many failures of ranges by themselves without one commit, and the task fails.
    node_failures_max : int
        After so many attempts on one range that failed by faults of their nodes, the task
        pauses: on two workers at least, unless there is one only.
    set_aside_max : float
        If more than this fraction of the events is set aside, the task fails.
    """

    failures_max: int = 3
    losses_max: int = 30
    bisections_max: int | None = None
    give_up_after: int = 100
    node_failures_max: int = 100
    set_aside_max: float = 1.0

    def check(self) -> None:
        """Refuse what cannot work, naming the field.

        Raises
        ------
        LimitError
        """
        for name in ("failures_max", "losses_max", "give_up_after", "node_failures_max"):
            if getattr(self, name) <= 0:
                raise self._refused(name, "give a number above 0")
        if self.bisections_max is not None and self.bisections_max < 0:
            raise self._refused("bisections_max", "give a number, 0 for none")
        if not 0 <= self.set_aside_max <= 1:
            raise self._refused("set_aside_max", "give a fraction between 0 and 1")

    def _refused(self, name: str, hint: str) -> LimitError:
        return LimitError(f"{name} is {getattr(self, name)}", hint=hint, field=f"limits.{name}")

    def pauses(self, failed: Sequence[WorkerId], *, others: bool) -> bool:
        """Whether a task pauses after an attempt that failed by a fault of its node.

        Parameters
        ----------
        failed : sequence of WorkerId
            On whose nodes attempts on the range have failed so, this one included. After a
            pause that was resumed, it takes as many again.
        others : bool
            Whether other workers than the last one have work of the task: one bad node
            among many does not stop it.
        """
        enough = len(failed) > 0 and len(failed) % self.node_failures_max == 0
        return enough and (len(set(failed)) > 1 or not others)

    def stop(self, progress: Progress, *, growing: bool = False) -> str:
        """Return why a task that has come so far stops; empty if it goes on.

        While its input grows, nobody knows the fraction that is set aside.
        """
        if progress.own_failures >= self.give_up_after and not progress.finished:
            return (
                f"given up: {counted(progress.own_failures, 'attempt', 'attempts')} failed and"
                " not one was committed"
                f" (give_up_after is {self.give_up_after})"
            )
        if not growing and progress.fatal > self.set_aside_max * progress.entries:
            return (
                f"{progress.fatal} of {progress.entries} events were set aside, more than"
                f" set_aside_max, {self.set_aside_max:g}"
            )
        return ""


class TakenOutputs(Struct, frozen=True, forbid_unknown_fields=True):
    """A task whose outputs another one takes as they are committed: its parent.

    Attributes
    ----------
    stream : str
        Which of its outputs; empty for those of its first stream.
    """

    task: int
    stream: str = ""


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
    scheduling : Scheduling
        Its place among other tasks; the one thing that may change.
    secondary : tuple of Secondary
        Whose events each unit gets beside its own.
    takes : tuple of TakenOutputs
        Its parents, in the order of its input, if it is a chained task: it takes their
        outputs as they are committed. Then it has no `dataset` but the one that these make.
    preparation : Preparation or None
        It is a request: edges make products of its ranges, and nothing is left in the store.
    bundle_bytes : int
        Outputs of a unit that have no more together are stored with those of other units, as
        one object; 0: each is an object.
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
    scheduling: Scheduling = Scheduling()
    secondary: tuple[Secondary, ...] = ()
    takes: tuple[TakenOutputs, ...] = ()
    preparation: Preparation | None = None
    bundle_bytes: int = 0

    @property
    def merges(self) -> bool:
        """Whether any output is merged."""
        return any(stream.merging for stream in self.outputs)

    @property
    def spans(self) -> bool:
        """Whether a unit may be several of the ledger's: by time, or for growing files."""
        return self.granularity.seconds is not None or self.payload.ranges_per_file > 1

    def range_rules(self, chunks: Iterable[Chunk]) -> BookRules:
        """Return how the book of the task's ranges is worked off."""
        step, limits = self.events_per_range, self.limits
        bisections_max = limits.bisections_max
        if bisections_max is None:
            ranges = sum(
                count_units((c.entry_start, c.entry_stop), c.entry_start, step) for c in chunks
            )
            bisections_max = max(BISECTIONS_MIN, BISECTIONS_PER_RANGE * ranges)
        return BookRules(step, limits.failures_max, limits.losses_max, bisections_max)

    @property
    def bisections_per_range(self) -> int:
        """Bisections that the task may make more for each range that comes to it."""
        return BISECTIONS_PER_RANGE if self.limits.bisections_max is None else 0

    def merge_rules(self) -> BookRules:
        """Return how the book of the task's merges is worked off: a merge is never divided."""
        return BookRules(1, self.limits.failures_max, self.limits.losses_max)

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
        self.scheduling.check()
        if self.preparation is not None:
            self.preparation.check()
            return
        self._check_takes()
        self.payload.check()
        if self.granularity.seconds is not None and self.payload.ranges_per_file > 1:
            raise RequestError(
                "ranges that go by time have a file each",
                hint="give ranges_per_file, or seconds per range, and not both",
                field="payload.ranges_per_file",
            )
        self.limits.check()
        check_bundle_bytes(self.bundle_bytes)
        check_streams(self.outputs)
        check_secondary(self.secondary, self.payload)
        check_outputs_named(self.outputs, self.payload)
        first = self.outputs[0]
        command = self.payload.kind == "command"
        if command and not first.pattern and not first.optional:
            check_output_named(self.payload.command, first.name)

    def _check_takes(self) -> None:
        if len(self.takes) > PARENTS_MAX:
            raise LimitError(
                f"the task takes outputs of {len(self.takes)} tasks",
                hint=f"give {PARENTS_MAX} at most",
                field="takes",
            )
        if len(set(self.takes)) < len(self.takes):
            raise RequestError(
                "the task takes the same outputs twice",
                hint="their events would be counted twice: give each once",
                field="takes",
            )
        if self.takes and self.granularity.bytes is not None:
            raise RequestError(
                "ranges of a chained task cannot go by bytes: its files are not known yet",
                hint="give events or seconds per range",
                field="granularity.bytes",
            )


@dataclass(frozen=True, slots=True)
class TakeBack:
    """Work of a task that is to be done again, or not at all.

    Attributes
    ----------
    key : str
        Whoever asks twice under one key gets what was answered first.
    redo : tuple of Place
        Of the ranges' book: they go out again.
    discard : tuple of Place
        Of the ranges' book: they leave the task.
    merged_with : tuple of Place
        Of the ranges' book: they go out again since what they left was merged with that
        of others, and is gone.
    merges : tuple of int
        Chunks of the merges' book that are part of the result no more.
    retracted : tuple of int
        Numbers of files that leave the dataset of a chained task, with their chunks: they
        are no part of their own task's result any more.
    """

    key: str
    reason: str
    redo: tuple[Place, ...] = ()
    discard: tuple[Place, ...] = ()
    merged_with: tuple[Place, ...] = ()
    merges: tuple[int, ...] = ()
    retracted: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class TakenBack:
    """What came of a `TakeBack`.

    Attributes
    ----------
    redone, withdrawn, merged_with : int
        Entries that go out again, that leave the task, and that go out again since they
        had been merged with these.
    times : int
        How often work of the task was taken back, this time included.
    """

    key: str
    redone: int
    withdrawn: int
    merged_with: int
    times: int = 1


@dataclass(frozen=True, slots=True)
class Task:
    """A task as the catalogue keeps it.

    Attributes
    ----------
    request_id : str
        Whoever submits twice under one id gets the same task.
    taken_back : TakenBack or None
        What was last taken back of it.
    submitter : str
        Whose credentials made it, as they were called; empty if that was not recorded.
    """

    id: TaskId
    spec: TaskSpec
    state: TaskState
    request_id: str
    created: datetime
    ended: datetime | None = None
    reason: str = ""
    taken_back: TakenBack | None = None
    submitter: str = ""

    @property
    def dataset(self) -> DatasetName:
        """Name of the dataset that it works on; a chained task has one of its own."""
        return self.spec.dataset or dataset_of(self.id)

    @property
    def times_taken_back(self) -> int:
        """How often work of it was taken back: as long as that is the same, nothing was."""
        return 0 if self.taken_back is None else self.taken_back.times


def dataset_of(task: TaskId) -> DatasetName:
    """Return the name of the dataset that a chained task makes of what it takes."""
    return DatasetName(f"{TASK_SCOPE}:{task}")


def ended(task: Task) -> ConflictError:
    """Return the error for what only a task that has not ended can do."""
    return ConflictError(
        f"task {task.id} is {task.state.value}",
        hint="only a task that has not ended can do that",
        task=task.id,
        state=task.state.value,
    )


def archived(task: Task) -> ConflictError:
    """Return the error for what needs books that are in the archive."""
    return ConflictError(
        f"task {task.id} is archived",
        hint="what it has done stays; submit it anew to do it again",
        task=task.id,
    )


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
