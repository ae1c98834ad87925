"""States of event ranges and of tasks, with PanDA's names beside them.

An event range::

    ready ──claim──▶ sent ──payload starts──▶ running ──report──▶ finished
      ▲                │                        │                    │
      │                └───expired, given back──┤                    ├─ task ends ─▶ done
      └────────────────── failed, next attempt ─┘                    ├─ in a merge ─▶ merged
                               │ no attempt left                     └─ found bad ─▶ corrupted
                               ▼
                             fatal            any state but finished ──cancel──▶ cancelled

A range whose input is withdrawn is ``discarded``, whatever has become of it; one that is
retried or reprocessed is ready again.

Only ``sent`` and ``running`` are kept as rows of their own (leases); ``ready`` is
what nobody holds, and ``failed`` is history: the range itself is ready again.
``done``, ``merged`` and ``corrupted`` say what became of a finished range's output.
"""

from __future__ import annotations

from enum import Enum, IntEnum


class RangeState(IntEnum):
    """State of an event range; the number is PanDA's code for it."""

    READY = 0
    SENT = 1
    RUNNING = 2
    FINISHED = 3
    CANCELLED = 4
    DISCARDED = 5
    DONE = 6
    FAILED = 7
    FATAL = 8
    MERGED = 9
    CORRUPTED = 10


class TaskState(Enum):
    """State of a task; the words are JEDI's.

    ``done`` means that every event asked for is committed, ``finished`` that some
    were set aside or withdrawn, ``failed`` that none was committed, ``aborted`` cancelled.
    ``paused`` is ours: nothing is handed out, and what runs is accepted. ::

        running ◀─resume── paused      running ──▶ merging ──▶ done, finished, failed, aborted
           └──────pause───────▲───────────────────────┘                      │
           ▲                                                                 │
           └───────────── retried, reprocessed, withdrawn ───────────────────┘
    """

    RUNNING = "running"
    PAUSED = "paused"
    MERGING = "merging"
    DONE = "done"
    FINISHED = "finished"
    FAILED = "failed"
    ABORTED = "aborted"

    @property
    def final(self) -> bool:
        """Whether nothing more will happen to the task."""
        return self not in ACTIVE


ACTIVE = (TaskState.RUNNING, TaskState.PAUSED, TaskState.MERGING)
"""States of tasks that have not ended."""


class Answer(Enum):
    """What a report is told. Whatever it is, the pilot deletes nothing it sent."""

    ACCEPTED = "accepted"
    ALREADY_ACCEPTED = "already_accepted"
    SUPERSEDED = "superseded"
