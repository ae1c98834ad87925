"""``evstream submit``: a task over a dataset or over files."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from evstream.cli.payload_checks import warn_of_shell_words
from evstream.cli.printing import print_json, print_pairs, size_text
from evstream.cli.service import DEFAULT_DOOR, Door
from evstream.cli.task_options import DEFAULT_OPTIONS, TaskOptions
from evstream.client import Service
from evstream.client.inputs import tree_of_inputs
from evstream.client.registering import register, with_secondary
from evstream.client.sandbox import send_sandbox
from evstream.client.task_file import TaskFile
from evstream.wire.messages import NewTask, TaskPreview, TaskView


def submit(
    *inputs: Annotated[str, Parameter(help="A registered dataset, or files as for 'run'.")],
    options: TaskOptions = DEFAULT_OPTIONS,
    dataset: Annotated[str, Parameter(help="Which dataset of a coffea fileset.")] = "",
    dry_run: Annotated[
        bool, Parameter(negative="", help="Tell what it would come to; begin nothing.")
    ] = False,
    door: Door = DEFAULT_DOOR,
) -> None:
    """Submit a task to a running service, and print its number.

    For example:

        evstream submit user:dimuons --payload 'python skim.py {input} {output}'
    """
    task = options.describe(list(inputs), dataset)
    warn_of_shell_words(task.payload)
    if dry_run:
        _preview(task, door)
        return

    async def work(service: Service) -> TaskView:
        request = await _request(service, task)
        return await service.submit(await send_sandbox(service, request, task.sandbox))

    view = door.ask(work)
    if door.json:
        print_json(view)
    else:
        print(view.id)


def _preview(task: TaskFile, door: Door) -> None:
    async def work(service: Service) -> TaskPreview:
        return await service.preview(await _request(service, task))

    view = door.ask(work)
    if door.json:
        print_json(view)
        return
    ranges: object = view.ranges
    if view.ranges is None:
        ranges = f"of about {view.spec.granularity.seconds:g} s each"
    known = view.cpu_s is not None and view.bytes_of_output is not None
    print_pairs(
        [
            ("files", view.files),
            ("events", view.events),
            ("ranges", ranges),
            ("bytes of the source", size_text(view.bytes_of_source)),
            ("bytes to read", f"about {size_text(view.bytes_to_read)}"),
            (
                "CPU seconds",
                f"about {view.cpu_s:.3g}" if known else "unknown: the first of its kind",
            ),
            (
                "bytes of output",
                f"about {size_text(view.bytes_of_output or 0)}" if known else "unknown",
            ),
        ]
    )
    for warning in view.warnings:
        print(f"warning: {warning}", file=sys.stderr)


async def _request(service: Service, task: TaskFile) -> NewTask:
    """Return the request for a task; datasets are registered that were not."""
    name = await register(service, task.inputs, task.dataset)
    files = [text for text in task.inputs if text != name]
    request = task.request(name, tree_of_inputs(files, task.dataset))
    return await with_secondary(service, request, task.secondary)
