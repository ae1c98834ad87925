"""Output streams, as flags say them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from evstream.domain.errors import RequestError
from evstream.domain.streams import MERGEABLE_SUFFIXES, OutputStream

_SUFFIX = re.compile(r"(\.[A-Za-z0-9]+)+")
_GLOB_SUFFIX = re.compile(r"(\.[A-Za-z0-9]+)+$")


def further_streams(texts: Iterable[str], *, merge: bool) -> list[OutputStream]:
    """Return the streams beside the one of ``{output}``.

    Parameters
    ----------
    texts : iterable of str
        ``NAME=SUFFIX`` or ``NAME=GLOB``.
    merge : bool
        Whether they are merged, where their format can be.

    Raises
    ------
    RequestError
    """
    streams = []
    for text in texts:
        name, equals, files = text.partition("=")
        ending = _GLOB_SUFFIX.search(files)
        if not (name and equals and ending):
            raise RequestError(
                f"--stream {text} is none",
                hint="give NAME=SUFFIX or NAME=GLOB, as in hist=.root or 'hist=hist_*.root'",
            )
        pattern = "" if _SUFFIX.fullmatch(files) else files
        merged = merge and ending[0] in MERGEABLE_SUFFIXES
        streams.append(OutputStream(name, ending[0], pattern, merge=merged))
    return streams
