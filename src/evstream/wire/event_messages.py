"""Messages about the event index."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from evstream.domain.errors import RequestError
from evstream.wire.messages import Count, Message

EVENTS_ASKED_MAX = 1_000_000
"""Events that one question may name; so many may be told one by one, too."""
RUN_MAX = 0xFFFF_FFFE
EVENT_MAX = (1 << 64) - 1

Run = Annotated[int, Meta(ge=0, le=RUN_MAX)]
EventNumber = Annotated[int, Meta(ge=0)]
EventKey = tuple[Run, Run | None, EventNumber]
"""Run, lumi block, event number; no lumi block stands for whichever it is."""


class EventSpan(Message, frozen=True):
    """Event numbers of a run, from `first` to `last`, which is one of them."""

    run: Run
    first: EventNumber
    last: EventNumber


class EventQuestion(Message, frozen=True):
    """POST /v1/event-lookups: which events, by their numbers or by lumi blocks.

    Attributes
    ----------
    lumis : dict of str to list of (int, int)
        Lumi blocks by run, both inclusive: CMS's JSON.
    dataset : str
        Look only at files that were indexed for it; empty: at all.
    guid : str
        Look only at the file of this GUID; empty: at all.
    tree : str
        Look only at events of trees of this name; empty: of all.
    first_only : bool
        Of an event that is at several places, select the first alone.
    """

    events: Annotated[list[EventKey], Meta(max_length=EVENTS_ASKED_MAX)] = []
    spans: Annotated[list[EventSpan], Meta(max_length=EVENTS_ASKED_MAX)] = []
    lumis: dict[str, list[tuple[Run, Run]]] = {}
    dataset: str = ""
    guid: str = ""
    tree: str = ""
    first_only: bool = False


class PoolContainer(Message, frozen=True):
    """Where a file that POOL wrote keeps its events' DataHeaders."""

    container: str
    class_id: str
    technology: int
    link: int


class FileOfEvents(Message, frozen=True):
    """A file that holds some of the events.

    Attributes
    ----------
    uuid, size, digest
        Its fingerprint when it was indexed.
    entries : int
        Of the tree, in all.
    steps : list of (int, int)
        Half-open intervals of the entries that were asked for.
    """

    lfn: str
    guid: str
    pfns: list[str]
    uuid: str
    size: Count
    digest: str
    tree: str
    entries: Count
    steps: list[tuple[Count, Count]]
    pool: PoolContainer | None = None


class EventPlace(Message, frozen=True, array_like=True):
    """Where an event is: ``[run, lumi block or null, event, file, entry]``.

    Attributes
    ----------
    file : int
        Position among the answer's files.
    """

    run: Run
    lumi: Run | None
    event: EventNumber
    file: Count
    entry: Count


class EventAnswer(Message, frozen=True):
    """Where events are.

    Attributes
    ----------
    places : list of EventPlace
        Of events that were named, in the order of the question; those of lumi blocks are in
        the files' steps alone.
    without_lumis : list of str
        Files (LFNs) with events of runs whose lumi blocks were asked for, but without lumi
        blocks: no lumi block selects theirs.
    missing : list of EventKey
        Events that were named and are nowhere.
    repeated : list of EventKey
        Events that were named and are at several places.
    """

    files: list[FileOfEvents] = []
    places: list[EventPlace] = []
    without_lumis: list[str] = []
    missing: list[EventKey] = []
    repeated: list[EventKey] = []

    @property
    def selected(self) -> int:
        """Number of entries that are selected."""
        return sum(stop - start for file in self.files for start, stop in file.steps)

    def fileset(self) -> dict[str, Any]:
        """Return the selection as coffea's JSON: each file with its tree, steps and fingerprint.

        A file that is registered from it is refused if it is another by now.

        Raises
        ------
        RequestError
            Events are in two trees of a file, which a fileset cannot say.
        """
        described: dict[str, Any] = {}
        trees: dict[str, str] = {}
        for file in self.files:
            if file.digest in trees or file.pfns[0] in described:
                raise RequestError(
                    f"events of two trees of {file.lfn} are no selection: "
                    f"{trees.get(file.digest, 'another')} and {file.tree}",
                    hint="choose one with --tree",
                )
            trees[file.digest] = file.tree
            about: dict[str, Any] = {
                "object_path": file.tree,
                "steps": file.steps,
                "num_entries": file.entries,
                "size": file.size,
                "digest": file.digest,
            }
            described[file.pfns[0]] = about | ({"uuid": file.uuid} if file.uuid else {})
        return {"selection": {"files": described}}
