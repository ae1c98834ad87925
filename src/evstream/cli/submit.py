"""``evstream submit``: a task over a dataset or over files."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter
from msgspec.structs import replace

from evstream.cli.payload_checks import look_at_payload
from evstream.cli.printing import print_json, print_pairs, size_text
from evstream.cli.service import DEFAULT_DOOR, Door
from evstream.cli.task_options import DEFAULT_OPTIONS, TaskOptions
from evstream.client import Service
from evstream.client.inputs import tree_of_inputs
from evstream.client.registering import register, with_secondary
from evstream.client.sandbox import send_sandbox
from evstream.client.task_file import TaskFile
from evstream.domain.errors import RequestError
from evstream.domain.task import TakenOutputs
from evstream.wire.messages import NewTask, TaskPreview, TaskView

TASK_DIGITS_MAX = 15


def submit(
    *inputs: Annotated[str, Parameter(help="A registered dataset, or files as for 'run'.")],
    options: TaskOptions = DEFAULT_OPTIONS,
    dataset: Annotated[str, Parameter(help="Which dataset of a coffea fileset.")] = "",
    takes: Annotated[
        tuple[str, ...],
        Parameter(
            negative="",
            help="Instead of inputs: TASK or TASK:STREAM, whose outputs are taken as they are "
            "committed; give it again for further tasks, in the order of the input.",
        ),
    ] = (),
    dry_run: Annotated[
        bool, Parameter(negative="", help="Tell what it would come to; begin nothing.")
    ] = False,
    door: Door = DEFAULT_DOOR,
) -> None:
    """Submit a task to a running service, and print its number.

    For example:

        evstream submit user:dimuons --payload 'python skim.py {input} {output}'
        evstream submit --takes 1 --payload 'python fit.py {input} {output}'
    """
    task = _taking(options.describe(list(inputs), dataset), takes)
    look_at_payload(task, here=False)
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


def _taking(task: TaskFile, texts: Sequence[str]) -> TaskFile:
    """Return a task with the parents that flags name, in place of those of its file.

    Raises
    ------
    RequestError
        One is none, or there are inputs besides.
    """
    takes = [_parent(text) for text in texts]
    task = replace(task, takes=tuple(takes) or task.takes)
    if task.takes and (task.inputs or task.dataset):
        raise RequestError(
            "inputs are given, and tasks whose outputs are taken", hint="give one of them"
        )
    return task


def _parent(text: str) -> TakenOutputs:
    number, colon, stream = text.partition(":")
    is_number = number.isascii() and number.isdecimal() and len(number) <= TASK_DIGITS_MAX
    if not is_number or (colon and not stream):
        raise RequestError(
            f"--takes {text!r} names no task", hint="give its number, as in 12 or 12:skim"
        )
    return TakenOutputs(int(number), stream)


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
    if task.takes:
        return await with_secondary(service, task.request("", ""), task.secondary)
    name = await register(service, task.inputs, task.dataset)
    files = [text for text in task.inputs if text != name]
    request = task.request(name, tree_of_inputs(files, task.dataset))
    return await with_secondary(service, request, task.secondary)
