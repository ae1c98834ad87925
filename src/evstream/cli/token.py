"""``evstream token``: strings that say how to read events."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from evstream.cli.event_index import tell
from evstream.cli.event_questions import DEFAULT_QUESTION, QuestionOptions, ask
from evstream.cli.printing import print_json
from evstream.cli.service import DEFAULT_DOOR, Door
from evstream.wire.event_tokens import token as token_of


def token(
    *events: Annotated[
        str,
        Parameter(
            help="RUN:EVENT, RUN:LUMI:EVENT, RUN:FIRST-LAST, or files of such lines, of CSV or "
            "of JSON."
        ),
    ],
    options: QuestionOptions = DEFAULT_QUESTION,
    door: Door = DEFAULT_DOOR,
) -> None:
    """Print a token for each event: how to read it, in POOL's form where the file is POOL's.

    Events that are nowhere, and those at several places, are told on standard error.

    For example:

        evstream token 266904:25855182 --guid 9A440868-8058-DB11-85E3-00304885AB94
        evstream token events.txt --json
    """
    found = ask(events, options, door)
    rows = [(place, found.files[place.file]) for place in found.places]
    if door.json:
        print_json(
            [
                {
                    "run": place.run,
                    "lumi": place.lumi,
                    "event": place.event,
                    "guid": file.guid,
                    "lfn": file.lfn,
                    "tree": file.tree,
                    "entry": place.entry,
                    "token": token_of(file, place.entry),
                }
                for place, file in rows
            ]
        )
    else:
        for place, file in rows:
            print(place.run, place.event, token_of(file, place.entry))
    tell(found)
