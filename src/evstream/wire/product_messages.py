"""Messages about prepared products: edges, what they have, searches, replicas, what is wanted."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from evstream.domain.dataset import Fingerprint
from evstream.domain.products import Edge, PlaceKind, ReplicaState
from evstream.wire.messages import Count, Message, Name, NewSlice

PRODUCTS_MAX = 1_000
"""Of one request: a transaction that claims and reports wait for is short."""
SEARCHES_MAX = 1_000
READY_FILES_MAX = 1_000
WANTED_MAX = 1_000
LIFE_S_MAX = 10 * 366 * 86_400.0

Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
Encoder = Annotated[str, Meta(min_length=1, max_length=200)]
Url = Annotated[str, Meta(min_length=1, max_length=4000)]
Life = Annotated[float, Meta(gt=0, le=LIFE_S_MAX)] | None
Bytes = Annotated[int, Meta(ge=0, le=(1 << 60))]


class Beat(Message, frozen=True):
    """PUT /v1/edges/NAME: an edge or a store is there.

    Attributes
    ----------
    capacity_bytes : int
        Room for products; 0 if it is not known.
    life_s : float or None
        How long it counts as alive unless it beats again; None: until it is removed.
    """

    url: Url
    kind: PlaceKind = "edge"
    capacity_bytes: Bytes = 0
    life_s: Life = None


class HeldProduct(Message, frozen=True):
    """A product that an edge has."""

    descriptor: dict[str, Any]
    encoder_id: Encoder
    size: Bytes
    sha256: Sha256


class HeldProducts(Message, frozen=True):
    """POST /v1/edges/NAME/products: what an edge has.

    Attributes
    ----------
    life_s : float or None
        After which they are forgotten unless they are told again; None: when they are dropped.
    """

    products: Annotated[list[HeldProduct], Meta(max_length=PRODUCTS_MAX)]
    life_s: Life = None


class ProductName(Message, frozen=True):
    """What tells a product from others: its key, and the encoder that made the bytes."""

    key: Sha256
    encoder_id: Encoder


class DroppedProducts(Message, frozen=True):
    """POST /v1/edges/NAME/drops: what an edge has no more."""

    products: Annotated[list[ProductName], Meta(max_length=PRODUCTS_MAX)]


class Changed(Message, frozen=True):
    """How many records a request has changed."""

    changed: int


class Search(Message, frozen=True):
    """POST /v1/product-searches: slices in people's words, or descriptors; one of both."""

    slices: Annotated[list[NewSlice], Meta(max_length=SEARCHES_MAX)] = []
    descriptors: Annotated[list[dict[str, Any]], Meta(max_length=SEARCHES_MAX)] = []


class FoundView(Message, frozen=True):
    """A product that is prepared, and the living edges and stores that have it."""

    key: str
    descriptor: dict[str, Any]
    encoder_id: str
    size: int
    sha256: str
    places: list[Edge]


class SearchAnswer(Message, frozen=True):
    """For each slice or descriptor the smallest product that holds all of it, or null."""

    found: list[FoundView | None]


class ReadyRequest(Message, frozen=True):
    """POST /v1/readiness: what is ready where of a dataset.

    Attributes
    ----------
    branches : list of str
        Globs; none for all.
    first : int
        File to begin with, by its place in the dataset.
    """

    dataset: Name
    tree: str = ""
    branches: list[str] = []
    first: Count = 0
    files: Annotated[int, Meta(ge=1, le=READY_FILES_MAX)] = READY_FILES_MAX


class ReadyFile(Message, frozen=True):
    """What is ready of a file: intervals by the name of the edge that has them."""

    lfn: str
    entries: int
    edges: dict[str, list[tuple[int, int]]]


class ReadyAnswer(Message, frozen=True):
    """Files in the dataset's order; ``next`` is the first that is left, if any is."""

    files: list[ReadyFile]
    next: int | None = None


class Requested(Message, frozen=True):
    """How often a product, or one like it of other entries, was asked for."""

    descriptor: dict[str, Any]
    requests: Annotated[int, Meta(ge=1, le=10**9)] = 1


class WantedRequest(Message, frozen=True):
    """POST /v1/wanted: requests to be counted."""

    requests: Annotated[list[Requested], Meta(max_length=PRODUCTS_MAX)]


class RecipeView(Message, frozen=True):
    """How products are made: a descriptor without its sources."""

    name: str
    version: int
    parameters: dict[str, Any]
    format: str


class WantedView(Message, frozen=True):
    """How much a recipe of a file is wanted.

    Attributes
    ----------
    lfn : str
        Where a dataset was asked about.
    score : float
        Requests, each worth half as much after seven days.
    """

    fingerprint: Fingerprint
    recipe: RecipeView
    score: float
    lfn: str = ""


class NewReplica(Message, frozen=True):
    """A copy of a file of a dataset.

    Attributes
    ----------
    site : str
        Name of the storage, an RSE where there are such.
    """

    lfn: Name
    pfn: Url
    site: Annotated[str, Meta(max_length=200)] = ""
    state: ReplicaState = "available"


class NewReplicas(Message, frozen=True):
    """POST /v1/replicas and /v1/replica-removals."""

    dataset: Name
    replicas: Annotated[list[NewReplica], Meta(max_length=PRODUCTS_MAX)]


class ReplicaView(Message, frozen=True):
    """A copy of a file; ``registered`` for those that came with the dataset itself."""

    lfn: str
    pfn: str
    site: str
    state: ReplicaState
    registered: bool = False
