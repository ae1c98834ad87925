"""The Range header (RFC 9110, section 14)."""

from __future__ import annotations

import re

RANGES_MAX = 1024
"""Of one request: as many as XRootD's vector reads have."""
_RANGE = re.compile(r"(\d{0,18})-(\d{0,18})")
_UNIT = re.compile(r"bytes=", re.IGNORECASE)

Spans = list[tuple[int, int]]


def parse_ranges(header: str | None, size: int) -> Spans | None:
    """Return the half-open byte ranges that a header asks for, within ``size`` bytes.

    A header that is absent, or of no form that we know, stands for everything, as the
    standard allows: one range of all of it. Of several ranges, those that lie outside are
    left out. An empty list means that none can be satisfied, or that they are too many,
    or more bytes together than all of it. None: everything, since no range is meant.
    """
    unit = _UNIT.match(header.strip()) if header is not None else None
    if unit is None or header is None:
        return None
    specs = [spec.strip(" \t") for spec in header.strip()[unit.end() :].split(",")]
    specs = [spec for spec in specs if spec]
    if len(specs) > RANGES_MAX:
        return []
    found: Spans = []
    for spec in specs:
        match = _RANGE.fullmatch(spec)
        if match is None or match.groups() == ("", ""):
            return None
        first, last = match.groups()
        if first and last and int(last) < int(first):
            return None
        span = _span(first, last, size)
        if span is not None:
            found.append(span)
    if not specs:
        return None
    if len(found) > 1 and sum(stop - start for start, stop in found) > size:
        return []
    return found


def _span(first: str, last: str, size: int) -> tuple[int, int] | None:
    if not first:
        return (max(size - int(last), 0), size) if int(last) and size else None
    start = int(first)
    stop = min(int(last) + 1, size) if last else size
    return (start, stop) if start < size else None
