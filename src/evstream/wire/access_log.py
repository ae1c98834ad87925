"""The access log of an edge: a line of JSON for each request for a product.

{"time": 1790000000.125, "key": "d1b2…", "size": 1048576, "cost": 0.41, "site": "LYON", "hit": true}
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated

import msgspec
from msgspec import Meta

from evstream.domain.caching.policy import Request
from evstream.domain.errors import RequestError

LINE_BYTES_MAX = 10_000


class Access(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request for a product.

    Attributes
    ----------
    time : float
        Seconds since 1970.
    key : str
        Of the product, with the encoder that made it.
    size : int
        Bytes of the whole product, whatever part was asked for.
    cost : float
        What a miss costs, bytes or seconds: the same for all lines.
    site : str
        Who asked; empty if it is not known.
    hit : bool
        Whether the edge had it.
    """

    time: float
    key: Annotated[str, Meta(min_length=1, max_length=1000)]
    size: Annotated[int, Meta(ge=1, le=1 << 60)]
    cost: Annotated[float, Meta(ge=0)]
    site: str = ""
    hit: bool = False


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Access)


def line_of(access: Access) -> bytes:
    """Return the line of a request, with its end."""
    return _ENCODER.encode(access) + b"\n"


def requests_of(lines: Iterable[bytes], name: str) -> Iterator[Request]:
    """Yield the requests of a log. A last line that was cut off by a kill is left out.

    Raises
    ------
    RequestError
        A line is something else; says which.
    """
    for number, line in enumerate(lines, 1):
        if not line.endswith(b"\n"):
            return
        if not line.strip():
            continue
        try:
            access = _DECODER.decode(line)
        except msgspec.MsgspecError as error:
            raise RequestError(
                f"{name}:{number} is no line of an access log: {error}",
                hint="each is a JSON object with time, key, size and cost",
            ) from error
        yield Request(access.time, access.key, access.size, access.cost)
