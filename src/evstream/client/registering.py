"""Datasets that tasks are made of: registered ones, or files that are registered for them."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from evstream.client.inputs import expand_inputs
from evstream.client.service import Service
from evstream.client.task_file import SecondaryInputs
from evstream.domain.errors import NotFoundError
from evstream.wire.messages import NewDataset, NewTask


async def register(service: Service, inputs: list[str], dataset: str = "") -> str:
    """Return the name of the dataset that inputs name; if they are files, they are registered.

    Parameters
    ----------
    dataset : str
        Which one of a coffea fileset.

    Raises
    ------
    NotFoundError, RequestError
        There are no such files, or they are none of events.
    """
    if len(inputs) == 1:
        try:
            return (await service.dataset(inputs[0])).name
        except NotFoundError:
            pass
    return (await service.add_dataset(NewDataset(expand_inputs(inputs, dataset)))).name


async def with_secondary(
    service: Service, task: NewTask, described: Sequence[SecondaryInputs]
) -> NewTask:
    """Return a task with secondary inputs, whose datasets are registered if need be.

    Raises
    ------
    NotFoundError, RequestError
    """
    secondary = [one.of(await register(service, one.inputs, one.dataset)) for one in described]
    return structs.replace(task, secondary=tuple(secondary))
