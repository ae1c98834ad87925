"""Messages about delivery: plans with their reasons, sites and links, ranges of other managers."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from evstream.domain.sites import COUNTRY, SITE_NAME, Direction
from evstream.wire.messages import Count, Message, Name, NewSlice

PLANS_MAX = 100
FOREIGN_MAX = 1_000
LINKS_MAX = 1_000
MATCHES_MAX = 2
"""Of a foreign range: the product that is prepared, and the cut itself."""

SiteName = Annotated[str, Meta(pattern=f"^({SITE_NAME})?$")]
"""A site, or nothing where it is not known."""
NamedSite = Annotated[str, Meta(pattern=f"^{SITE_NAME}$")]
Amount = Annotated[float, Meta(ge=0, le=1e18)]


class NewSite(Message, frozen=True):
    """PUT /v1/sites/NAME: where a site is.

    Attributes
    ----------
    country : str
        ISO 3166-1, two capital letters; empty if it is not known.
    latitude, longitude : float or None
        In degrees; both or none.
    """

    country: Annotated[str, Meta(pattern=f"^({COUNTRY})?$")] = ""
    latitude: Annotated[float, Meta(ge=-90, le=90)] | None = None
    longitude: Annotated[float, Meta(ge=-180, le=180)] | None = None


class SeenLink(Message, frozen=True):
    """What somebody saw of a link since the last time that it was told.

    Attributes
    ----------
    edge : str
        Its name, or the URL of anything there.
    trips, trips_s : float
        Round trips, and the seconds of all of them.
    bytes, seconds : float
        What was moved, and in how long.
    """

    site: NamedSite
    edge: Annotated[str, Meta(min_length=1, max_length=4000)]
    direction: Direction = "to_site"
    trips: Amount = 0.0
    trips_s: Amount = 0.0
    bytes: Amount = 0.0
    seconds: Amount = 0.0


class SeenLinks(Message, frozen=True):
    """POST /v1/links: what was measured of links."""

    links: Annotated[list[SeenLink], Meta(max_length=LINKS_MAX)]


class LinkView(Message, frozen=True):
    """A link as it is thought to be now, and how much of that was measured."""

    site: str
    edge: str
    direction: Direction
    trip_s: float
    bytes_per_s: float
    trips: float
    seconds: float


class NewPlan(Message, frozen=True):
    """POST /v1/plans: slices in people's words, or descriptors; one of both.

    Attributes
    ----------
    site : str
        Where the client is; edges are ordered for it.
    explain : bool
        Tell of every edge why it stands where it does.
    """

    slices: Annotated[list[NewSlice], Meta(max_length=PLANS_MAX)] = []
    descriptors: Annotated[list[dict[str, Any]], Meta(max_length=PLANS_MAX)] = []
    site: SiteName = ""
    explain: bool = False


class ChoiceView(Message, frozen=True, omit_defaults=False):
    """An edge for a product, with the terms of its expected time, in seconds.

    Attributes
    ----------
    refused : str
        Why it is not chosen; empty if it may be.
    """

    edge: str
    seconds: float
    trips_s: float
    queue_s: float
    transfer_s: float
    making_s: float
    room_s: float
    away_s: float
    held: bool
    home: bool
    measured: bool
    reason: str
    refused: str


class Endpoint(Message, frozen=True):
    """A URL of a product; ``country`` where it is known."""

    url: str
    site: str = ""
    country: str = ""


class PlanView(Message, frozen=True):
    """Where a product is had, best first.

    Attributes
    ----------
    name : str
        A file name for it.
    size : int
        Bytes; 0 if nobody has made it yet.
    sha256 : str
        Of the bytes; empty if nobody has made it yet, or copies of several encoders are about.
    estimate : int
        Bytes that were supposed for the choice.
    choices : list of ChoiceView
        Every edge, where an explanation was asked for.
    """

    key: str
    name: str
    descriptor: dict[str, Any]
    endpoints: list[Endpoint]
    size: int = 0
    sha256: str = ""
    estimate: int = 0
    choices: list[ChoiceView] = []


class PlansAnswer(Message, frozen=True):
    """Plans in the order in which they were asked for."""

    plans: list[PlanView]


class ForeignRange(Message, frozen=True):
    """Events of a file that another workload manager keeps the books of.

    Attributes
    ----------
    id : str
        Its name there; it comes back with the answer.
    scope : str
        Of the datasets that are searched; empty for all.
    guid : str
        Of the file; empty if it is not known.
    entry_start, entry_stop : int
        Half-open.
    """

    lfn: Name
    entry_start: Count
    entry_stop: Count
    id: Annotated[str, Meta(max_length=200)] = ""
    scope: Annotated[str, Meta(max_length=200)] = ""
    guid: Annotated[str, Meta(max_length=36)] = ""


class ForeignRequest(Message, frozen=True):
    """POST /v1/foreign-ranges: in our spelling, or in PanDA's; one of both.

    Attributes
    ----------
    panda : list of dict
        As getEventRanges gives them, with startEvent and lastEvent.
    tree : str
        Where files have several.
    branches : list of str
        Globs; none for all.
    """

    ranges: Annotated[list[ForeignRange], Meta(max_length=FOREIGN_MAX)] = []
    panda: Annotated[list[dict[str, Any]], Meta(max_length=FOREIGN_MAX)] = []
    tree: str = ""
    branches: Annotated[list[str], Meta(max_length=1_000)] = []
    site: SiteName = ""


class ForeignMatch(Message, frozen=True):
    """A product that holds a foreign range.

    Attributes
    ----------
    entry_start, entry_stop : int
        Which of the product's own entries the range is: the first that it holds is 0.
    exact : bool
        It holds nothing else.
    prepared : bool
        It is there already.
    """

    plan: PlanView
    entry_start: int
    entry_stop: int
    exact: bool
    prepared: bool


class ForeignAnswer(Message, frozen=True):
    """What was found of a foreign range, best first, or why nothing was.

    Attributes
    ----------
    code : str
        Of the error, as problems have it; empty if there is none.
    """

    id: str
    lfn: str
    dataset: str = ""
    guid: str = ""
    tree: str = ""
    matches: list[ForeignMatch] = []
    code: str = ""
    detail: str = ""
    hint: str = ""


class ForeignAnswers(Message, frozen=True):
    """Answers in the order of the ranges."""

    ranges: list[ForeignAnswer]
