"""Routes of datasets."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from evstream.domain.dataset import Dataset
from evstream.domain.names import DatasetName, without_secrets
from evstream.web.replies import read, reply
from evstream.web.services import Services
from evstream.wire import messages as m


def catalogue_routes(services: Services) -> list[Route]:
    """Return the routes under /v1/datasets."""

    async def add_dataset(request: Request) -> Response:
        new = await read(request, m.NewDataset)
        return reply(dataset_view(await services.datasets.add(new)), 201)

    async def list_datasets(request: Request) -> Response:
        rows = await services.catalogue.datasets()
        return reply([m.DatasetLine(name, files, size) for name, files, size in rows])

    async def show_dataset(request: Request) -> Response:
        name = DatasetName(request.path_params["name"])
        return reply(dataset_view(await services.catalogue.dataset(name)))

    return [
        Route("/v1/datasets", add_dataset, methods=["POST"]),
        Route("/v1/datasets", list_datasets, methods=["GET"]),
        Route("/v1/datasets/{name:path}", show_dataset, methods=["GET"]),
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
