"""Edges: what they may do, and what they say of themselves."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct

from evstream.domain.dataset import Fingerprint
from evstream.domain.errors import RequestError
from evstream.domain.names import Pfn

EdgeState = Literal["serving", "draining", "maintenance", "quarantined"]
"""What the head has decided of an edge.

- serving: it is given work, and clients are sent to it.
- draining: it is given no new work; what it holds is still served from it.
- maintenance: nobody is sent to it.
- quarantined: its bytes did not match; nobody is sent to it until an operator says so.
"""

BAD_REPLICAS_MAX = 1000
"""So many are told at once."""
BEATS_MISSED_MAX = 3
"""An edge that was silent for so many beats is lost."""


READING_MAX = 32
"""Products whose readers an edge tells of."""


_URL = re.compile(r"https?://[A-Za-z0-9._:\[\]-]+(/[!-~]*)?")


def checked_url(url: str) -> str:
    """Return where an edge says that it is, as clients may be sent there.

    It stands in headers, plans and lists of replicas, and paths are put behind it.

    Raises
    ------
    RequestError
    """
    if not _URL.fullmatch(url) or "?" in url or "#" in url:
        raise RequestError(
            f"{url[:200]!r} is not where an edge can be",
            hint="give http(s)://HOST:PORT, and a path if there is one",
        )
    return url


class LaneLoad(Struct, frozen=True, forbid_unknown_fields=True):
    """How busy a lane of an edge is.

    Attributes
    ----------
    running, waiting : int
        Products that are being made, and that wait for a maker.
    makers_max, depth_max : int
        How many may run, and wait, at once.
    make_s : float
        Seconds that making one took lately; 0 where none was made.
    """

    running: int = 0
    waiting: int = 0
    makers_max: int = 0
    depth_max: int = 0
    make_s: float = 0.0


def most_read(readers: Mapping[str, int]) -> dict[str, int]:
    """Return what most read at once, by key; given by the names that caches have for products."""
    by_key: Counter[str] = Counter()
    for name, count in readers.items():
        by_key[name.partition("-")[0]] += count
    return {key: count for key, count in by_key.most_common(READING_MAX) if count > 1}


class EdgeStatus(Struct, frozen=True, forbid_unknown_fields=True):
    """What an edge says of itself with each beat.

    Attributes
    ----------
    version : str
        Of evstream.
    site : str
        Where it is, an RSE's name where there are such.
    free_bytes : int
        Room for more products: what it may keep, and its disk takes.
    readers : int
        Bodies that are being sent of products that it keeps.
    reading : dict of str to int
        How many read which product, by key: those with several readers, `READING_MAX` at most.
    sent_bytes_per_s : float
        What it sent lately, on average.
    lanes : dict of str to LaneLoad
    leaving : bool
        It was told to stop, and takes nothing new.
    """

    version: str = ""
    site: str = ""
    free_bytes: int = 0
    readers: int = 0
    sent_bytes_per_s: float = 0.0
    lanes: dict[str, LaneLoad] = {}
    leaving: bool = False
    reading: dict[str, int] = {}


class BadReplica(Struct, frozen=True, forbid_unknown_fields=True):
    """A copy of a file that brought wrong bytes where another one brought the right ones.

    Attributes
    ----------
    evidence : str
        What showed it.
    """

    fingerprint: Fingerprint
    pfn: Pfn
    evidence: Annotated[str, Meta(max_length=2000)] = ""
