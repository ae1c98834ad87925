"""Word that a node will not be ours for ever."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Notice:
    """How long a node is left to us.

    Attributes
    ----------
    seconds : float
        Until it is taken; `math.inf` if nobody says when.
    evicted : bool
        It is taken before its time: leave now. Otherwise the time that was agreed on ends,
        and what ends before may still be begun.
    """

    seconds: float
    evicted: bool


class Notices(Protocol):
    """Asks a batch system, a cloud or a site whether this node is to be left."""

    async def look(self) -> Notice | None:
        """Return the notice as it is now; None if there is none.

        Raises
        ------
        EvstreamError
            Nobody answers, or not as documented. Asked again, it may pass.
        """
        ...
