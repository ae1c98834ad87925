"""PanDA's spelling of event ranges: inclusive, 1-based events; here and nowhere else."""

from __future__ import annotations

from typing import Any

import msgspec

from evstream.domain.errors import RequestError
from evstream.wire.delivery_messages import ForeignRange


class PandaRange(msgspec.Struct, frozen=True):
    """A range as getEventRanges gives it; what else PanDA says of it is let be.

    Attributes
    ----------
    startEvent, lastEvent : int
        Positions in the file, from 1; the last one is in the range.
    """

    startEvent: int  # noqa: N815 - PanDA's names
    lastEvent: int  # noqa: N815
    LFN: str
    eventRangeID: str = ""  # noqa: N815
    GUID: str | None = ""
    scope: str | None = ""


def from_panda(plain: Any) -> ForeignRange:
    """Read a range of PanDA's.

    Raises
    ------
    RequestError
        It is none.
    """
    try:
        # A form or a file may have made texts of numbers.
        told = msgspec.convert(plain, PandaRange, strict=False)
        if not 1 <= told.startEvent <= told.lastEvent:
            raise RequestError(
                f"events {told.startEvent} to {told.lastEvent} are no range",
                hint="PanDA counts from 1, and lastEvent is in the range",
            )
        return msgspec.convert(
            {
                "lfn": told.LFN,
                "entry_start": told.startEvent - 1,
                "entry_stop": told.lastEvent,
                "id": told.eventRangeID,
                "scope": told.scope or "",
                "guid": told.GUID or "",
            },
            ForeignRange,
        )
    except msgspec.ValidationError as error:
        raise RequestError(
            f"not a range of PanDA's: {error}", hint="send what getEventRanges gave"
        ) from error


def to_panda(one: ForeignRange) -> dict[str, Any]:
    """Return a range as PanDA spells it."""
    return {
        "eventRangeID": one.id,
        "startEvent": one.entry_start + 1,
        "lastEvent": one.entry_stop,
        "LFN": one.lfn,
        "GUID": one.guid,
        "scope": one.scope,
    }
