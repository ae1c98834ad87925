"""``evstream replica``: copies of a dataset's files."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from evstream.cli.printing import print_json, print_table
from evstream.cli.service import DEFAULT_DOOR, Door
from evstream.domain.products import ReplicaState
from evstream.wire.product_messages import NewReplica, NewReplicas

Dataset = Annotated[str, Parameter(help="A registered dataset.")]
File = Annotated[str, Parameter(help="LFN of a file of it.")]
Copy = Annotated[str, Parameter(help="Path or URL of the copy.")]


def add(
    dataset: Dataset,
    file: File,
    copy: Copy,
    *,
    site: Annotated[str, Parameter(help="Name of its storage, such as an RSE.")] = "",
    state: Annotated[ReplicaState, Parameter(help="How the copy is.")] = "available",
    door: Door = DEFAULT_DOOR,
) -> None:
    """Say that a file has a copy; for a copy that is known, say anew where and how it is.

    For example:

        evstream replica add user:dimuons a.root root://se.example.org//data/a.root --site LYON
    """
    new = NewReplicas(dataset, [NewReplica(file, copy, site, state)])
    door.ask(lambda service: service.prepared.add_replicas(new))


def list_all(
    dataset: Dataset,
    file: Annotated[str, Parameter(help="LFN of a file of it; default all.")] = "",
    *,
    door: Door = DEFAULT_DOOR,
) -> None:
    """List the copies of a dataset's files, those first that it was registered with.

    For example:

        evstream replica list user:dimuons a.root
    """
    views = door.ask(lambda service: service.prepared.replicas(dataset, file))
    if door.json:
        print_json(views)
        return
    rows = [(view.lfn, view.pfn, view.site or "-", view.state) for view in views]
    print_table(["file", "copy", "site", "state"], rows)


def remove(dataset: Dataset, file: File, copy: Copy, *, door: Door = DEFAULT_DOOR) -> None:
    """Forget a copy; one that a dataset was registered with stays.

    For example:

        evstream replica remove user:dimuons a.root root://se.example.org//data/a.root
    """
    gone = NewReplicas(dataset, [NewReplica(file, copy)])
    removed = door.ask(lambda service: service.prepared.remove_replicas(gone))
    if door.json:
        print_json({"removed": removed})
    else:
        print(f"{removed} removed")
