"""Messages of the whiteboard."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta

from evstream.domain.whiteboard import CollectionKind, ValueType
from evstream.wire.messages import Count, Message, Name

NOTES_MAX = 1_000
PARTS_MAX = 10_000
INTERVALS_MAX = 200_000
"""Of one collection: longer lists are several notes."""
INTERVALS_LISTED_MAX = 1_000
"""Collections with more are shown without their intervals, but for one note by itself."""

Person = Annotated[str, Meta(min_length=1, max_length=200)]
Key = Annotated[str, Meta(min_length=1, max_length=100)]
Version = Annotated[int, Meta(ge=0)]
Limit = Annotated[int, Meta(ge=1, le=NOTES_MAX)]


class PartRef(Message, frozen=True):
    """Events of one file of a dataset.

    Attributes
    ----------
    lfn : str
        Empty for the only file.
    tree : str
        Empty for the only one that the files have in common.
    entries : list of (int, int) or None
        Half-open intervals, one or more; None stands for the file as a whole.
    """

    lfn: str = ""
    tree: str = ""
    entries: Annotated[list[tuple[Count, Count]], Meta(min_length=1)] | None = None


class CollectionRef(Message, frozen=True):
    """What a note is on: a dataset, or parts of it, one or more.

    A list that is empty is refused: whoever chose nothing does not mean everything.
    """

    dataset: Name
    parts: Annotated[list[PartRef], Meta(min_length=1, max_length=PARTS_MAX)] | None = None


class NewKey(Message, frozen=True):
    """PUT /v1/whiteboard/keys/NAME."""

    type: ValueType
    author: Person
    description: Annotated[str, Meta(max_length=2000)] = ""


class NewNote(Message, frozen=True):
    """POST /v1/whiteboard/notes.

    Attributes
    ----------
    author : str
        Who writes; taken at their word.
    expected_version : int or None
        That the note must have, 0 for none; None: whichever.
    writers : list of str or None
        Who else may change it, ``*`` for everybody; None: as it was.
    """

    collection: CollectionRef
    key: Key
    value: Any
    author: Person
    expected_version: Version | None = None
    writers: Annotated[list[Person], Meta(max_length=100)] | None = None


class Removal(Message, frozen=True):
    """POST /v1/whiteboard/removals."""

    collection: CollectionRef
    key: Key
    author: Person
    expected_version: Version | None = None


class NoteRequest(Message, frozen=True):
    """POST /v1/whiteboard/reads."""

    collection: CollectionRef
    key: Key
    version: Version | None = None


class HistoryRequest(Message, frozen=True):
    """POST /v1/whiteboard/histories.

    Attributes
    ----------
    after : int
        The last version of the page before.
    """

    collection: CollectionRef
    key: Key
    after: Count = 0
    limit: Limit = NOTES_MAX


class NoteSearch(Message, frozen=True):
    """POST /v1/whiteboard/searches: what is left out does not matter.

    Attributes
    ----------
    equals, at_least, below : Any
        Compared with the value, in the key's type; they need a key.
    after : int
        Number of the last note of the page before.
    """

    key: Annotated[str, Meta(max_length=100)] = ""
    equals: Any = None
    at_least: Any = None
    below: Any = None
    kind: CollectionKind | None = None
    collection: CollectionRef | None = None
    owner: Annotated[str, Meta(max_length=200)] = ""
    after: Count = 0
    limit: Limit = 100


class EventNotes(Message, frozen=True):
    """POST /v1/whiteboard/events: the notes on some events.

    Attributes
    ----------
    lfn : str
        Whose entries they are. Empty: the only file, or with ``in_dataset`` all of them.
    entry_stop : int
        -1 stands for the entry after the first.
    in_dataset : bool
        Entries are counted through the files of the dataset, in their order.
    whole : bool
        Only notes that hold all of the entries, not just some.
    """

    dataset: Name
    entry_start: Count
    entry_stop: int = -1
    lfn: str = ""
    tree: str = ""
    in_dataset: bool = False
    whole: bool = False
    after: Count = 0
    limit: Limit = 100


class KeyView(Message, frozen=True):
    """A key: what notes under it say."""

    name: str
    type: ValueType
    description: str
    owner: str


class PartView(Message, frozen=True):
    """Events of one file.

    Attributes
    ----------
    lfn : str
        Of the file as it was registered last; empty if it no longer is.
    events : int
        How many entries; 0 for the file as a whole.
    """

    lfn: str
    digest: str
    tree: str = ""
    events: int = 0
    entries: list[tuple[int, int]] = []


class CollectionView(Message, frozen=True):
    """What a note is on.

    Attributes
    ----------
    shortened : bool
        Parts are shown without their entries, since there are many.
    """

    kind: CollectionKind
    dataset: str = ""
    parts: list[PartView] = []
    shortened: bool = False


class NoteView(Message, frozen=True):
    """One version of a note."""

    number: int
    collection: CollectionView
    key: str
    value: Any
    version: int
    owner: str
    author: str
    changed: datetime
    writers: list[str] = []
    removed: bool = False


class NotesAnswer(Message, frozen=True):
    """Notes by number, or versions of one; ``next`` is what to give as ``after`` for more."""

    notes: list[NoteView]
    next: int | None = None
