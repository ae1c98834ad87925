"""Routes that change what becomes of a task."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from evstream.web.operations import Operation, Served
from evstream.web.replies import read, reply
from evstream.web.services import Services
from evstream.web.task_routes import task_id_of
from evstream.wire import messages as m

CANCEL = Operation(
    "POST", "/v1/tasks/{task}/cancel", "cancel a task", gives=m.TaskView, errors=(404, 409)
)
PAUSE = Operation(
    "POST",
    "/v1/tasks/{task}/pause",
    "hand out nothing more of it",
    gives=m.TaskView,
    errors=(404, 409),
)
RESUME = Operation(
    "POST", "/v1/tasks/{task}/resume", "let it go on", gives=m.TaskView, errors=(404, 409)
)
SCHEDULE = Operation(
    "POST",
    "/v1/tasks/{task}/schedule",
    "give it another place among others",
    takes=m.ScheduleRequest,
    gives=m.TaskView,
    errors=(404, 409),
)
ARCHIVE = Operation(
    "POST",
    "/v1/tasks/{task}/archive",
    "put its books into the archive",
    gives=m.Archived,
    errors=(404, 409),
)
RETRY = Operation(
    "POST",
    "/v1/tasks/{task}/retry",
    "send out again what was set aside or cancelled",
    takes=m.RetryRequest,
    gives=m.TaskView,
    errors=(404, 409),
)
REPROCESS = Operation(
    "POST",
    "/v1/tasks/{task}/reprocess",
    "do a file again",
    takes=m.FileRequest,
    gives=m.TaskView,
    errors=(404, 409),
)
WITHDRAW = Operation(
    "POST",
    "/v1/tasks/{task}/withdraw",
    "take a file out",
    takes=m.FileRequest,
    gives=m.TaskView,
    errors=(404, 409),
)


def control_routes(services: Services) -> list[Served]:
    """Return the routes under /v1/tasks/ID that are verbs."""

    def key_of(request: Request) -> str:
        return request.headers.get("Idempotency-Key") or services.ids.new("req")

    async def cancel(request: Request) -> Response:
        task = await services.finishing.cancel(task_id_of(request))
        return reply(await services.tasks.view(task))

    async def pause(request: Request) -> Response:
        task = await services.catalogue.pause_task(task_id_of(request))
        return reply(await services.tasks.view(task))

    async def resume(request: Request) -> Response:
        task = await services.catalogue.resume_task(task_id_of(request))
        services.finishing.nudge(task.id)
        return reply(await services.tasks.view(task))

    async def schedule(request: Request) -> Response:
        wanted = await read(request, m.ScheduleRequest)
        task = await services.tasks.schedule(task_id_of(request), wanted)
        return reply(await services.tasks.view(task))

    async def archive(request: Request) -> Response:
        task_id = task_id_of(request)
        return reply(m.Archived(task_id, await services.archiving.archive(task_id)))

    async def retry(request: Request) -> Response:
        task_id, wanted = task_id_of(request), await read(request, m.RetryRequest)
        task = await services.reopening.retry(
            task_id, key_of(request), failed_only=wanted.failed_only
        )
        await services.finishing.follow(task_id)
        return reply(await services.tasks.view(task))

    def take_back_file(*, withdraw: bool) -> Callable[[Request], Awaitable[Response]]:
        async def taken_back(request: Request) -> Response:
            task_id, wanted = task_id_of(request), await read(request, m.FileRequest)
            task = await services.reopening.take_back_file(
                task_id, wanted.file, key_of(request), withdraw=withdraw
            )
            await services.finishing.follow(task_id)
            return reply(await services.tasks.view(task))

        return taken_back

    reprocess, withdraw = take_back_file(withdraw=False), take_back_file(withdraw=True)
    return [
        CANCEL.by(cancel),
        PAUSE.by(pause),
        RESUME.by(resume),
        SCHEDULE.by(schedule),
        ARCHIVE.by(archive),
        RETRY.by(retry),
        REPROCESS.by(reprocess),
        WITHDRAW.by(withdraw),
    ]
