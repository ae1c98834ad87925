"""``evstream task``: look at a task, cancel it, fetch what it made."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

from cyclopts import Parameter

from evstream.cli.printing import print_json, print_pairs, print_table
from evstream.cli.progress import describe
from evstream.cli.service import DEFAULT_DOOR, Door
from evstream.client import Service
from evstream.client.results import fetch_results
from evstream.wire.messages import FailureView, TaskView

Number = Annotated[int, Parameter(help="Number of the task.")]


def show(
    task: Number,
    *,
    door: Door = DEFAULT_DOOR,
) -> None:
    """Show a task, and each attempt of it that failed, with its reason and its log.

    For example:

        evstream task show 1
    """

    async def work(service: Service) -> tuple[TaskView, list[FailureView]]:
        return await service.task(task), await service.failures(task)

    view, failures = door.ask(work)
    if door.json:
        print_json({"task": view, "failures": failures})
        return
    spec = view.spec
    branches = "all" if spec.branches is None else f"{len(spec.branches)} chosen"
    print_pairs(
        [
            ("name", spec.name),
            ("state", describe(view)),
            ("reason", view.reason or "-"),
            ("submitted by", view.submitter or "-"),
            ("dataset", f"{view.dataset}, tree {spec.tree}, branches {branches}"),
            *_chain(view),
            ("payload", spec.payload.command),
            ("events per range", spec.events_per_range),
        ]
    )
    if failures:
        rows = [
            (
                "(merge)" if f.merge else f.lfn,
                "" if f.merge else f"{f.entry_start}:{f.entry_stop}",
                f.attempt,
                f.kind,
                f.error,
                f.log,
            )
            for f in failures
        ]
        print_table(["file", "entries", "attempt", "kind", "error", "log"], rows)


def _chain(view: TaskView) -> list[tuple[str, object]]:
    """Return the tasks before and behind a task, as lines, if there are any."""
    parents = [f"{taken.task} ({taken.stream})" for taken in view.spec.takes]
    lines = [("takes outputs of", parents), ("outputs taken by", [str(t) for t in view.takers])]
    return [(name, "task " + ", ".join(tasks)) for name, tasks in lines if tasks]


def cancel(
    task: Number,
    *,
    door: Door = DEFAULT_DOOR,
) -> None:
    """Cancel a task. What is committed stays, and the receipt says what is not.

    For example:

        evstream task cancel 1
    """
    view = door.ask(lambda service: service.cancel(task))
    if door.json:
        print_json(view)
    else:
        print(describe(view))


def outputs(
    task: Number,
    folder: Annotated[Path, Parameter(help="Folder to write to.")],
    *,
    door: Door = DEFAULT_DOOR,
) -> None:
    """Fetch the outputs and the receipt of an ended task into a folder.

    For example:

        evstream task outputs 1 task1/
    """
    paths = door.ask(lambda service: fetch_results(service, task, folder))
    if door.json:
        print_json([str(path) for path in paths])
    else:
        for path in paths:
            print(path)


def log(
    name: Annotated[str, Parameter(help="Name of a log, as 'evstream task show' tells it.")],
    *,
    door: Door = DEFAULT_DOOR,
) -> None:
    """Print the log of an attempt that failed: what its payload wrote.

    For example:

        evstream task log tasks/1/log/2-0-0-100.a1.lease7f3a.txt
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        door.ask(lambda service: service.fetch_output(f"/v1/outputs/{quote(name)}", path))
        text = path.read_text(encoding="utf-8", errors="replace")
    if door.json:
        print_json({"name": name, "text": text})
    else:
        print(text, end="")
