"""Output streams, as flags say them."""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from evstream.client.inputs import absolute_payload
from evstream.domain.errors import RequestError
from evstream.domain.payload import Payload
from evstream.domain.streams import MERGEABLE_SUFFIXES, Merge, OutputStream

_SUFFIX = re.compile(r"(\.[A-Za-z0-9]+)+")
_GLOB_SUFFIX = re.compile(r"(\.[A-Za-z0-9]+)+$")


def merge_rule(
    merge: bool | None,
    bytes_: int | None,
    events: int | None,
    files: bool | None,
    command: str,
) -> Merge | bool | None:
    """Return how outputs are merged, as flags say it; None if they say nothing.

    Raises
    ------
    RequestError
        They say two things.
    """
    command = command and absolute_payload(Payload(command)).command
    targets = [("bytes", bytes_), ("events", events), ("file", 0 if files else None)]
    said = [(by, target) for by, target in targets if target is not None]
    if len(said) > 1:
        raise RequestError(
            "outputs cannot be merged both by " + " and by ".join(by for by, _ in said),
            hint="give one of --merge-bytes, --merge-events and --merge-files",
        )
    if said:
        by, target = said[0]
        return msgspec.convert({"by": by, "target": target, "command": command}, Merge)
    return Merge(command=command) if command else merge


def further_streams(texts: Iterable[str], *, merge: bool | Merge) -> list[OutputStream]:
    """Return the streams beside the one of ``{output}``.

    Parameters
    ----------
    texts : iterable of str
        ``NAME=SUFFIX`` or ``NAME=GLOB``.
    merge : bool or Merge
        Whether, and how, they are merged, where their format can be.

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
        merged = merge if ending[0] in MERGEABLE_SUFFIXES else False
        streams.append(OutputStream(name, ending[0], pattern, merge=merged))
    return streams
