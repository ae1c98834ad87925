"""Messages between heads and edges: beats, keys, what is known of sources and products."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from evstream.domain.dataset import Fingerprint
from evstream.domain.edges import BAD_REPLICAS_MAX, BadReplica, EdgeState, EdgeStatus
from evstream.domain.products import Edge
from evstream.wire.messages import Message
from evstream.wire.product_messages import Bytes, Sha256, Url

BEAT_S_MAX = 3600.0


class EdgeBeat(Message, frozen=True):
    """POST /v1/edges/NAME/beats: an edge is there, and says how it is.

    Attributes
    ----------
    url : str
        Where clients reach it.
    beat_s : float
        When it beats again; it is lost after three beats that were missed.
    capacity_bytes : int
        Room for products; 0 if it is not known.
    """

    url: Url
    beat_s: Annotated[float, Meta(gt=0, le=BEAT_S_MAX)]
    capacity_bytes: Bytes = 0
    status: EdgeStatus = EdgeStatus()


class UrlKey(Message, frozen=True):
    """What an edge checks URLs with that were signed in one epoch.

    Attributes
    ----------
    key : str
        In hexadecimal digits.
    """

    epoch: int
    key: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]


class PlacementOrder(Message, frozen=True):
    """What an edge is to do about a product, when it has nothing better to do.

    An order that cannot be carried out is left; one that is still right comes again.

    Attributes
    ----------
    do : str
        "fetch" it from another edge, or make it; or "drop" it.
    size, sha256 : int, str
        Of the bytes that this encoder makes.
    urls : list of str
        Other edges that have it, signed for them.
    reason : str
        For people.
    """

    do: Literal["fetch", "drop"]
    key: str
    encoder_id: str
    descriptor: dict[str, Any]
    size: Bytes
    sha256: Sha256
    urls: list[str]
    reason: str


class BeatAnswer(Message, frozen=True):
    """What an edge is told.

    Attributes
    ----------
    edge : Edge
        As the head knows it, with what the head has decided of it.
    keys : list of UrlKey
        All that it checks URLs with, instead of those from before.
    orders : list of PlacementOrder
        What it should hold besides what it is asked for, and what it need not hold.
    """

    edge: Edge
    keys: list[UrlKey]
    orders: list[PlacementOrder] = []


class EdgeStateRequest(Message, frozen=True):
    """POST /v1/edges/NAME/state: what an edge may do."""

    state: EdgeState
    reason: Annotated[str, Meta(max_length=1000)] = ""


class Complaint(Message, frozen=True):
    """POST /v1/complaints: an edge sent other bytes than it should.

    Attributes
    ----------
    url : str
        That they came from; no more of it than scheme, host and port matters.
    etag : str
        As the edge gave it: key and encoder.
    sha256 : str
        Of the bytes that came.
    is_other : bool
        They say themselves that they are of another product, or not whole: that the edge told
        of these very bytes does not make them right.
    """

    url: Url
    etag: Annotated[str, Meta(max_length=400)]
    sha256: Sha256
    is_other: bool = False


class Judged(Message, frozen=True):
    """What came of a complaint.

    Attributes
    ----------
    quarantined : bool
        Nobody is sent to the edge any more.
    sha256 : str
        Of the right bytes, as far as is known; empty if nothing is.
    """

    quarantined: bool
    sha256: str = ""


class BadReplicas(Message, frozen=True):
    """POST /v1/edges/NAME/bad-replicas: these brought wrong bytes, and others the right ones.

    Attributes
    ----------
    replicas : list of BadReplica
        With what showed that they are bad.
    """

    replicas: Annotated[list[BadReplica], Meta(max_length=BAD_REPLICAS_MAX)]


class SourceView(Message, frozen=True):
    """GET /v1/sources/DIGEST: a file of some dataset, for an edge that is to read it.

    Attributes
    ----------
    pfns : list of str
        Where it is, the best first, with whatever secrets they hold.
    checksums : dict of str to str
        Of the whole file, by kind, as far as they are known.
    """

    lfn: str
    guid: str
    fingerprint: Fingerprint
    format: str
    trees: dict[str, int]
    pfns: list[str]
    checksums: dict[str, str] = {}


class DescriptorView(Message, frozen=True):
    """GET /v1/products/KEY/descriptor."""

    key: str
    descriptor: dict[str, Any]
