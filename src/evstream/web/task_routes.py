"""Routes of tasks."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from evstream.domain.errors import NotFoundError
from evstream.domain.names import TaskId
from evstream.web.replies import read, reply
from evstream.web.services import Services
from evstream.wire import messages as m


def task_routes(services: Services) -> list[Route]:
    """Return the routes under /v1/tasks and /v1/task-previews."""

    async def submit(request: Request) -> Response:
        new = await read(request, m.NewTask)
        request_id = request.headers.get("Idempotency-Key") or services.ids.new("req")
        task = await services.tasks.submit(new, request_id)
        if task.spec.takes:
            services.finishing.nudge(task.id)
        return reply(await services.tasks.view(task), 201)

    async def preview(request: Request) -> Response:
        return reply(await services.tasks.preview(await read(request, m.NewTask)))

    async def list_tasks(request: Request) -> Response:
        tasks = await services.catalogue.tasks()
        return reply([await services.tasks.view(task) for task in tasks])

    async def show_task(request: Request) -> Response:
        task = await services.catalogue.task(task_id_of(request))
        return reply(await services.tasks.view(task))

    async def entries(request: Request) -> Response:
        return reply(await services.tasks.entries(task_id_of(request)))

    async def failures(request: Request) -> Response:
        return reply(await services.tasks.failures(task_id_of(request)))

    async def outputs(request: Request) -> Response:
        return reply(await services.tasks.outputs(task_id_of(request)))

    async def receipt(request: Request) -> Response:
        return reply(await services.catalogue.receipt(task_id_of(request)))

    return [
        Route("/v1/tasks", submit, methods=["POST"]),
        Route("/v1/task-previews", preview, methods=["POST"]),
        Route("/v1/tasks", list_tasks, methods=["GET"]),
        Route("/v1/tasks/{task}", show_task, methods=["GET"]),
        Route("/v1/tasks/{task}/entries", entries, methods=["GET"]),
        Route("/v1/tasks/{task}/failures", failures, methods=["GET"]),
        Route("/v1/tasks/{task}/outputs", outputs, methods=["GET"]),
        Route("/v1/tasks/{task}/receipt", receipt, methods=["GET"]),
    ]


def task_id_of(request: Request) -> TaskId:
    """Return the number of the task that a path names."""
    text = request.path_params["task"]
    # Digits of other scripts are decimal too.
    if not (text.isascii() and text.isdecimal()) or len(text) > 15:
        raise NotFoundError(f"there is no task {text!r}", hint="tasks are numbered: 1, 2, …")
    return TaskId(int(text))
