"""How much a complaint about an edge counts for: it cannot be proved, and may be wrong itself."""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime, timedelta

BELIEVED_AGAIN = timedelta(hours=1)
"""So long nobody's word takes out a second edge."""
CALLERS_MAX = 10_000


class Complaints:
    """Whose word has taken out which edge.

    A worker whose memory fails gets wrong bytes from everybody, and one that lies can say so
    of everybody: neither takes out more than one edge an hour. What others say counts beside it.
    """

    def __init__(self) -> None:
        self._believed: OrderedDict[str, tuple[str, datetime]] = OrderedDict()

    def believe(self, caller: str, edge: str, now: datetime) -> bool:
        """Say whether a caller is believed about an edge now; if so, remember it."""
        before, until = self._believed.get(caller, (edge, now))
        if before != edge and now < until:
            return False
        self._believed[caller] = edge, now + BELIEVED_AGAIN
        self._believed.move_to_end(caller)
        while len(self._believed) > CALLERS_MAX:
            self._believed.popitem(last=False)
        return True

    def forget(self, caller: str) -> None:
        """Forget what a caller was believed about: it was shown to be another's fault."""
        self._believed.pop(caller, None)
