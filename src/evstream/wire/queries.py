"""What may stand behind the question mark of a URL, as messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from evstream.domain.errors import RequestError
from evstream.domain.products import EDGE_NAME
from evstream.domain.streams import FILES_PER_STREAM_MAX
from evstream.wire.messages import Message
from evstream.wire.pages import NumbersQuery
from evstream.wire.product_messages import WANTED_MAX, Bytes

T = TypeVar("T")


class SignedQuery(Message, frozen=True, forbid_unknown_fields=False):
    """Of a URL that carries content: anything else may stand there too.

    Attributes
    ----------
    e, k, s : str
        Expiry, number of the key, and signature.
    """

    e: str = ""
    k: str = ""
    s: str = ""


class ProductQuery(SignedQuery, frozen=True, forbid_unknown_fields=False):
    """GET /v1/products/KEY.

    Attributes
    ----------
    d : str or None
        The packed descriptor.
    f : str or None
        Where the source is; an edge believes it if it is signed.
    w : str or None
        For whom it is, likewise: ``PRIORITY~TAIL~SITE~USER``.
    """

    d: str | None = None
    f: str | None = None
    w: str | None = None


class SourceQuery(Message, frozen=True):
    """GET /v1/sources/DIGEST: the rest of the file's fingerprint, and which edge asks."""

    size: Bytes
    uuid: Annotated[str, Meta(max_length=200)] = ""
    edge: Annotated[str, Meta(pattern=f"^({EDGE_NAME})?$")] = ""


class OutputQuery(SignedQuery, frozen=True, forbid_unknown_fields=False):
    """PUT /v1/outputs/NAME.

    Attributes
    ----------
    n : int or None
        For a further file of a stream.
    stop : int or None
        Where the entries of a unit end that was reported in part.
    """

    n: Annotated[int, Meta(ge=0, lt=FILES_PER_STREAM_MAX)] | None = None
    stop: Annotated[int, Meta(ge=1)] | None = None


class FileQuery(NumbersQuery, frozen=True, kw_only=True):
    """GET /v1/recipes and /v1/replicas: files of a dataset, all of them without an LFN."""

    dataset: str
    lfn: str = ""


class WantedQuery(Message, frozen=True):
    """GET /v1/wanted: of a dataset, of all without it. What is beyond the limit is not kept."""

    dataset: str = ""
    limit: Annotated[int, Meta(ge=1, le=WANTED_MAX)] = 100


def parse_query(items: Iterable[tuple[str, str]], kind: type[T]) -> T:
    """Read a query.

    Raises
    ------
    RequestError
        It does not fit; the parameter and the reason are named.
    """
    listed = list(items)
    twice = [name for name, times in Counter(name for name, _ in listed).items() if times > 1]
    if twice:
        raise RequestError(f"{twice[0][:80]!r} is in the query twice", hint="give it once")
    try:
        plain = {name: value.replace("\0", "\ufffd") for name, value in listed}
        return msgspec.convert(plain, kind, strict=False)
    except msgspec.ValidationError as error:
        raise RequestError(f"query: {error}", hint="see /v1 in the API reference") from error
