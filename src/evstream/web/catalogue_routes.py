"""Routes of datasets and tasks."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from evstream.domain.dataset import Dataset
from evstream.domain.errors import NotFoundError
from evstream.domain.names import DatasetName, TaskId, without_secrets
from evstream.web.replies import read, reply
from evstream.web.services import Services
from evstream.wire import messages as m


def catalogue_routes(services: Services) -> list[Route]:
    """Return the routes under /v1/datasets and /v1/tasks."""

    async def add_dataset(request: Request) -> Response:
        new = await read(request, m.NewDataset)
        return reply(dataset_view(await services.datasets.add(new)), 201)

    async def list_datasets(request: Request) -> Response:
        rows = await services.catalogue.datasets()
        return reply([m.DatasetLine(name, files, size) for name, files, size in rows])

    async def show_dataset(request: Request) -> Response:
        name = DatasetName(request.path_params["name"])
        return reply(dataset_view(await services.catalogue.dataset(name)))

    async def submit(request: Request) -> Response:
        new = await read(request, m.NewTask)
        request_id = request.headers.get("Idempotency-Key") or services.ids.new("req")
        task = await services.tasks.submit(new, request_id)
        return reply(await services.tasks.view(task), 201)

    async def list_tasks(request: Request) -> Response:
        tasks = await services.catalogue.tasks()
        return reply([await services.tasks.view(task) for task in tasks])

    async def show_task(request: Request) -> Response:
        task = await services.catalogue.task(_task_id(request))
        return reply(await services.tasks.view(task))

    async def cancel(request: Request) -> Response:
        task_id = _task_id(request)
        await services.tasks.cancel(task_id)
        task = await services.finishing.advance(task_id)
        if not task.state.final:
            # Its last range was done just before, and it has begun to merge.
            await services.tasks.cancel(task_id)
            task = await services.finishing.advance(task_id)
        return reply(await services.tasks.view(task))

    async def failures(request: Request) -> Response:
        return reply(await services.tasks.failures(_task_id(request)))

    async def outputs(request: Request) -> Response:
        return reply(await services.tasks.outputs(_task_id(request)))

    async def receipt(request: Request) -> Response:
        return reply(await services.catalogue.receipt(_task_id(request)))

    return [
        Route("/v1/datasets", add_dataset, methods=["POST"]),
        Route("/v1/datasets", list_datasets, methods=["GET"]),
        Route("/v1/datasets/{name:path}", show_dataset, methods=["GET"]),
        Route("/v1/tasks", submit, methods=["POST"]),
        Route("/v1/tasks", list_tasks, methods=["GET"]),
        Route("/v1/tasks/{task}", show_task, methods=["GET"]),
        Route("/v1/tasks/{task}/cancel", cancel, methods=["POST"]),
        Route("/v1/tasks/{task}/failures", failures, methods=["GET"]),
        Route("/v1/tasks/{task}/outputs", outputs, methods=["GET"]),
        Route("/v1/tasks/{task}/receipt", receipt, methods=["GET"]),
    ]


def dataset_view(dataset: Dataset) -> m.DatasetView:
    """Return a dataset as the API shows it."""
    return m.DatasetView(
        name=dataset.name,
        files=[
            m.FileView(
                lfn=file.lfn,
                guid=file.guid,
                pfns=[without_secrets(pfn) for pfn in file.pfns],
                fingerprint=file.fingerprint,
                trees=file.trees,
                asked={tree: list(intervals) for tree, intervals in file.asked.items()},
                format=file.format,
            )
            for file in dataset.files
        ],
    )


def _task_id(request: Request) -> TaskId:
    text = request.path_params["task"]
    # Digits of other scripts are decimal too.
    if not (text.isascii() and text.isdecimal()) or len(text) > 15:
        raise NotFoundError(f"there is no task {text!r}", hint="tasks are numbered: 1, 2, …")
    return TaskId(int(text))
