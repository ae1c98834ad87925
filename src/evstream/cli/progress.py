"""Live progress of a task: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from evstream.wire.messages import TaskView

LINE_EVERY_S = 5.0


def describe(view: TaskView) -> str:
    """Return where a task is, in one line."""
    p = view.process
    parts = [
        f"task {view.id} {view.state.value}",
        f"{p.finished}/{p.entries} events",
        f"{p.ranges_finished}/{p.ranges} ranges",
    ]
    if p.running or p.sent:
        parts.append(f"{p.running} events running, {p.sent} sent, {view.workers} workers")
    if p.failed_attempts:
        parts.append(f"{p.failed_attempts} failed attempts")
    if p.fatal:
        parts.append(f"{p.fatal} set aside")
    return ", ".join(parts)


class ProgressDisplay:
    """Shows a task as it comes along, on standard error."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        self._last_line = ""
        self._last_note = ""
        self._last_time = 0.0
        if self._console.is_terminal:
            self._bar = Progress(
                BarColumn(),
                TextColumn("{task.description}"),
                TimeElapsedColumn(),
                console=self._console,
                transient=False,
            )
            self._task = self._bar.add_task("starting", total=None)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def note(self, line: str) -> None:
        """Say something beside the progress, once."""
        if line != self._last_note:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
            self._last_note = line

    def show(self, view: TaskView) -> None:
        """Show where the task is now; lines come at most every few seconds."""
        line = describe(view)
        if self._bar is not None:
            self._bar.update(
                self._task,
                description=line,
                total=view.process.entries,
                completed=view.process.finished + view.process.fatal,
            )
            return
        due = time.monotonic() - self._last_time >= LINE_EVERY_S or view.state.final
        if line != self._last_line and due:
            print(line, file=sys.stderr, flush=True)
            self._last_line, self._last_time = line, time.monotonic()
