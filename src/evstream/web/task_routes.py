"""Routes of tasks."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from evstream.domain.accounts import Spent
from evstream.domain.errors import NotFoundError
from evstream.domain.names import TaskId
from evstream.domain.task import Task
from evstream.web.doors import caller_of
from evstream.web.operations import Operation, Served
from evstream.web.replies import query_of, read, reply
from evstream.web.services import Services
from evstream.wire import messages as m
from evstream.wire.pages import NumberedPage, NumbersQuery, places_page

SUBMIT = Operation(
    "POST",
    "/v1/tasks",
    "create a task",
    takes=m.NewTask,
    gives=m.TaskView,
    status=201,
    errors=(404, 409),
)
PREVIEW = Operation(
    "POST",
    "/v1/task-previews",
    "what a task would come to",
    takes=m.NewTask,
    gives=m.TaskPreview,
    errors=(404, 409),
)
LIST_TASKS = Operation(
    "GET",
    "/v1/tasks",
    "all tasks with their progress",
    gives=NumberedPage[m.TaskView],
    query=NumbersQuery,
)
SHOW_TASK = Operation(
    "GET", "/v1/tasks/{task}", "one task with its progress", gives=m.TaskView, errors=(404,)
)
ENTRIES = Operation(
    "GET",
    "/v1/tasks/{task}/entries",
    "what became of its entries",
    gives=NumberedPage[m.FileEntries],
    query=NumbersQuery,
    errors=(404,),
)
FAILURES = Operation(
    "GET",
    "/v1/tasks/{task}/failures",
    "attempts that came to nothing",
    gives=NumberedPage[m.FailureView],
    query=NumbersQuery,
    errors=(404,),
)
OUTPUTS = Operation(
    "GET",
    "/v1/tasks/{task}/outputs",
    "committed outputs, with URLs to get them",
    gives=NumberedPage[m.OutputView],
    query=NumbersQuery,
    errors=(404,),
)
REPORT = Operation(
    "GET",
    "/v1/tasks/{task}/report",
    "what its work took, by site and time",
    gives=m.TaskReport,
    errors=(404,),
)
SPENT = Operation(
    "GET",
    "/v1/submitters",
    "what the work of each submitter's tasks took, by site",
    gives=list[Spent],
)
RECEIPT = Operation(
    "GET",
    "/v1/tasks/{task}/receipt",
    "the signed receipt of an ended task",
    gives=dict[str, Any],
    errors=(404,),
)


def task_routes(services: Services) -> list[Served]:
    """Return the routes under /v1/tasks, /v1/task-previews and /v1/submitters."""

    async def submit(request: Request) -> Response:
        new = await read(request, m.NewTask)
        request_id = request.headers.get("Idempotency-Key") or services.ids.new("req")
        submitter = caller_of(request.scope).name
        task = await services.tasks.submit(new, request_id, submitter)
        if task.spec.takes:
            services.finishing.nudge(task.id)
        return reply(await services.tasks.view(task), 201)

    async def preview(request: Request) -> Response:
        return reply(await services.tasks.preview(await read(request, m.NewTask)))

    async def list_tasks(request: Request) -> Response:
        query = query_of(request, NumbersQuery)
        tasks: list[Task] = []
        after: int | None = query.after
        while after is not None and len(tasks) <= query.limit:
            found = await services.catalogue.tasks(after=after, limit=query.limit + 1)
            # Requests have a list of their own.
            tasks += [task for task in found if task.spec.preparation is None]
            after = found[-1].id if len(found) > query.limit else None
        page = tasks[: query.limit]
        more = page[-1].id if len(tasks) > len(page) else None
        return reply(NumberedPage([await services.tasks.view(task) for task in page], more))

    async def show_task(request: Request) -> Response:
        task = await services.catalogue.task(task_id_of(request))
        return reply(await services.tasks.view(task))

    async def entries(request: Request) -> Response:
        query = query_of(request, NumbersQuery)
        return reply(places_page(await services.tasks.entries(task_id_of(request)), query))

    async def failures(request: Request) -> Response:
        query = query_of(request, NumbersQuery)
        return reply(places_page(await services.tasks.failures(task_id_of(request)), query))

    async def outputs(request: Request) -> Response:
        query = query_of(request, NumbersQuery)
        return reply(places_page(await services.tasks.outputs(task_id_of(request)), query))

    async def receipt(request: Request) -> Response:
        return reply(await services.catalogue.receipt(task_id_of(request)))

    return [
        SUBMIT.by(submit),
        PREVIEW.by(preview),
        LIST_TASKS.by(list_tasks),
        SHOW_TASK.by(show_task),
        ENTRIES.by(entries),
        FAILURES.by(failures),
        OUTPUTS.by(outputs),
        RECEIPT.by(receipt),
        *_sums(services),
    ]


def _sums(services: Services) -> list[Served]:
    async def report(request: Request) -> Response:
        return reply(await services.tasks.report(task_id_of(request)))

    async def spent(request: Request) -> Response:
        return reply(await services.catalogue.spent())

    return [REPORT.by(report), SPENT.by(spent)]


def task_id_of(request: Request) -> TaskId:
    """Return the number of the task that a path names."""
    text = request.path_params["task"]
    # Digits of other scripts are decimal too.
    if not (text.isascii() and text.isdecimal()) or len(text) > 15:
        raise NotFoundError(f"there is no task {text!r}", hint="tasks are numbered: 1, 2, …")
    return TaskId(int(text))
