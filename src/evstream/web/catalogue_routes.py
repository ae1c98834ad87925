"""Routes of datasets."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from evstream.domain.dataset import Dataset
from evstream.domain.names import DatasetName, without_secrets
from evstream.web.operations import Operation, Served
from evstream.web.replies import query_of, read, reply
from evstream.web.services import Services
from evstream.wire import messages as m
from evstream.wire.pages import NamedPage, NamesQuery, names_page

ADD_DATASET = Operation(
    "POST",
    "/v1/datasets",
    "register files under a name",
    takes=m.NewDataset,
    gives=m.DatasetView,
    status=201,
    errors=(404, 409, 422),
)
LIST_DATASETS = Operation(
    "GET", "/v1/datasets", "list datasets", gives=NamedPage[m.DatasetLine], query=NamesQuery
)
SHOW_DATASET = Operation(
    "GET",
    "/v1/datasets/{name:path}",
    "a dataset with its files",
    gives=m.DatasetView,
    errors=(404,),
)


def catalogue_routes(services: Services) -> list[Served]:
    """Return the routes under /v1/datasets."""

    async def add_dataset(request: Request) -> Response:
        new = await read(request, m.NewDataset)
        return reply(dataset_view(await services.datasets.add(new)), 201)

    async def list_datasets(request: Request) -> Response:
        query = query_of(request, NamesQuery)
        rows = await services.catalogue.datasets(query.after, query.limit + 1)
        lines = [m.DatasetLine(name, files, size) for name, files, size in rows]
        return reply(names_page(lines, lambda line: line.name, query))

    async def show_dataset(request: Request) -> Response:
        name = DatasetName(request.path_params["name"])
        return reply(dataset_view(await services.catalogue.dataset(name)))

    return [
        ADD_DATASET.by(add_dataset),
        LIST_DATASETS.by(list_datasets),
        SHOW_DATASET.by(show_dataset),
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
                checksums=file.checksums,
            )
            for file in dataset.files
        ],
    )
