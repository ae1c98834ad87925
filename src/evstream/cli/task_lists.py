"""``evstream task set-aside`` and ``lumis``: events of a task by their numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from evstream.cli.printing import print_json, print_table
from evstream.cli.service import DEFAULT_DOOR, Door
from evstream.client.event_lists import processed_lumis, set_aside_events

Number = Annotated[int, Parameter(help="Number of the task.")]
Sources = Annotated[Path | None, Parameter(help="Folder to look for source files in.")]


def set_aside(task: Number, *, sources: Sources = None, door: Door = DEFAULT_DOOR) -> None:
    """List the events that were set aside: file, entry, run and event numbers, error.

    For example:

        evstream task set-aside 1
    """
    events = door.ask(lambda service: set_aside_events(service, task, sources))
    if door.json:
        print_json(events)
        return
    names = list(dict.fromkeys(name for event in events for name in event.numbers))
    rows = [
        (e.lfn, e.entry, *(e.numbers.get(name, "-") for name in names), e.error) for e in events
    ]
    print_table(["file", "entry", *names, "error"], rows)


def lumis(task: Number, *, sources: Sources = None, door: Door = DEFAULT_DOOR) -> None:
    """Print the lumi blocks that are done whole, as CMS's JSON.

    For example:

        evstream task lumis 1
    """
    print_json(door.ask(lambda service: processed_lumis(service, task, sources)))
