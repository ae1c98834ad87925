"""What people ask an event index, from flags and files, and who answers it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from evstream.cli.service import Door
from evstream.domain.errors import NotFoundError, RequestError
from evstream.eventindex import FOLDER, EventIndex, answer
from evstream.eventindex.event_lists import parse_event, read_events, read_lumis
from evstream.wire.event_messages import EventAnswer, EventKey, EventQuestion, EventSpan

Folder = Annotated[
    Path | None,
    Parameter(help="Folder of the event index; default: 'event-index' in the data directory."),
]
Dataset = Annotated[str, Parameter(help="Look only at files that were indexed for this dataset.")]


@Parameter(name="*")
@dataclass(frozen=True)
class QuestionOptions:
    """Flags that say where to look for events."""

    index: Folder = None
    dataset: Dataset = ""
    guid: Annotated[str, Parameter(help="Look only at the file of this GUID.")] = ""
    tree: Annotated[str, Parameter(help="Look only at events of trees of this name.")] = ""
    first_only: Annotated[
        bool,
        Parameter(negative="", help="Of an event that is at several places, take the first."),
    ] = False


DEFAULT_QUESTION = QuestionOptions()


def folder_of(index: Path | None, door: Door) -> Path:
    """Return the folder of the index that is meant."""
    return index if index is not None else Path(door.settings().data_dir) / FOLDER


def ask(
    texts: Sequence[str], options: QuestionOptions, door: Door, lumis: Path | None = None
) -> EventAnswer:
    """Look up what words and files ask for, in a folder or at a service that is named.

    Parameters
    ----------
    lumis : Path, optional
        List of lumi blocks.

    Raises
    ------
    RequestError
        A list cannot be read, or nothing is asked for.
    """
    question = _question(texts, options, lumis)
    if options.index is None and door.settings().url:
        return door.ask(lambda service: service.find_events(question))
    return answer(EventIndex(folder_of(options.index, door)), question)


def _question(texts: Sequence[str], options: QuestionOptions, lumis: Path | None) -> EventQuestion:
    events: list[EventKey] = []
    spans: list[EventSpan] = []
    for text in texts:
        if not _is_there(text):
            one = parse_event(text)
            if isinstance(one, EventSpan):
                spans.append(one)
            else:
                events.append(one)
            continue
        listed = read_events(_read(text), text)
        events += listed.events
        spans += listed.spans
    blocks = {} if lumis is None else read_lumis(_read(str(lumis)), str(lumis))
    if not (events or spans or blocks):
        raise RequestError("no event is asked for", hint="give events, or files of them")
    return EventQuestion(
        events=events,
        spans=spans,
        lumis=blocks,
        dataset=options.dataset,
        guid=options.guid,
        tree=options.tree,
        first_only=options.first_only,
    )


def _is_there(text: str) -> bool:
    """Whether a word names a file; a pipe will do as well."""
    try:
        return Path(text).expanduser().exists()
    except (OSError, RuntimeError):
        # No file can have that name, or nobody has that home.
        return False


def _read(text: str) -> str:
    try:
        return Path(text).expanduser().read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no file {text}", hint="check the path") from error
    except (OSError, RuntimeError, UnicodeDecodeError) as error:
        raise RequestError(f"{text} cannot be read: {error}", hint="give a text file") from error
