"""What goes wrong again and again is logged at growing intervals, and when it is over."""

from __future__ import annotations

import logging

TIMES_MAX = 512
"""However long it lasts, one in so many is logged."""


class Troubles:
    """Logs the first, second, fourth, ... time in a row that something fails.

    Parameters
    ----------
    what : str
        What is the matter, before the error's own words.
    over : str
        What is said when it works again.
    """

    def __init__(self, log: logging.Logger, what: str, over: str) -> None:
        self._log = log
        self._what = what
        self._over = over
        self._kind: type[Exception] | None = None
        self._times = 0

    def failed(self, error: Exception) -> None:
        """Take an error; one of another kind than the last begins anew."""
        self._times = self._times + 1 if type(error) is self._kind else 1
        self._kind = type(error)
        power_of_two = self._times & (self._times - 1) == 0
        if self._times % TIMES_MAX == 0 or power_of_two:
            times = f" ({self._times} times)" if self._times > 1 else ""
            self._log.warning("evstream: %s%s: %s", self._what, times, error)

    def worked(self) -> None:
        """Take that it works; said once, if it did not before."""
        if self._times:
            self._log.warning("evstream: %s", self._over)
        self._kind, self._times = None, 0
