"""``evstream task set-aside`` and ``lumis``: events of a task by their numbers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from evstream.cli.printing import print_json, print_table
from evstream.cli.service import DEFAULT_DOOR, Door
from evstream.cli.verify import Numbers
from evstream.client.event_lists import EventLists

Number = Annotated[int, Parameter(help="Number of the task.")]
Sources = Annotated[
    Path | None, Parameter(help="Folder of copies of the sources, where the service has none.")
]


def set_aside(
    task: Number, *, sources: Sources = None, numbers: Numbers = (), door: Door = DEFAULT_DOOR
) -> None:
    """List the events that were set aside: file, entry, run and event numbers, error.

    For example:

        evstream task set-aside 1
    """
    from evstream.assembly import make_formats

    formats = make_formats()
    events = door.ask(
        lambda service: EventLists(service, formats, sources, numbers).set_aside(task)
    )
    if door.json:
        print_json(events)
        return
    names = list(dict.fromkeys(name for event in events for name in event.numbers))
    rows = [
        (e.lfn, e.entry, *(e.numbers.get(name, "-") for name in names), e.error) for e in events
    ]
    print_table(["file", "entry", *names, "error"], rows)
    for why in dict.fromkeys(event.unknown for event in events if event.unknown):
        print(f"event numbers not known: {why}", file=sys.stderr)


def lumis(
    task: Number, *, sources: Sources = None, numbers: Numbers = (), door: Door = DEFAULT_DOOR
) -> None:
    """Print the lumi blocks that are done whole, as CMS's JSON.

    For example:

        evstream task lumis 1
    """
    from evstream.assembly import make_formats

    formats = make_formats()
    print_json(door.ask(lambda service: EventLists(service, formats, sources, numbers).lumis(task)))
