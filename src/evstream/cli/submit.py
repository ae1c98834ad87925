"""``evstream submit``: a task over a dataset or over files."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from evstream.cli.payload_checks import warn_of_shell_words
from evstream.cli.printing import print_json
from evstream.cli.service import DEFAULT_DOOR, Door
from evstream.cli.task_options import TaskOptions
from evstream.client import Service
from evstream.client.inputs import expand_inputs, tree_of_inputs
from evstream.domain.errors import NotFoundError
from evstream.wire.messages import NewDataset, TaskView


def submit(
    *inputs: Annotated[str, Parameter(help="A registered dataset, or files as for 'run'.")],
    options: TaskOptions,
    dataset: Annotated[str, Parameter(help="Which dataset of a coffea fileset.")] = "",
    door: Door = DEFAULT_DOOR,
) -> None:
    """Submit a task to a running service, and print its number.

    For example:

        evstream submit user:dimuons --payload 'python skim.py {input} {output}'
    """
    warn_of_shell_words(options.payload)

    async def work(service: Service) -> TaskView:
        name, tree = await _dataset(service, list(inputs), dataset)
        return await service.submit(options.new_task(name, tree))

    view = door.ask(work)
    if door.json:
        print_json(view)
    else:
        print(view.id)


async def _dataset(service: Service, inputs: list[str], fileset: str) -> tuple[str, str]:
    """Return the dataset that inputs mean, registered if it was not, and its tree."""
    if len(inputs) == 1:
        try:
            return (await service.dataset(inputs[0])).name, ""
        except NotFoundError:
            pass
    files = expand_inputs(inputs, fileset)
    return (await service.add_dataset(NewDataset(files))).name, tree_of_inputs(inputs, fileset)
