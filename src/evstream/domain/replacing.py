"""When pilots that ended are replaced: at once as a rule, later where they end early.

A place that kills whatever starts there must not make a storm of submissions. So a pilot
that ends early makes the next ones wait, each time twice as long, and then one alone goes
ahead: when it lasts, the others follow.
"""

from __future__ import annotations

SETTLED_S = 10.0
"""A pilot that has run so long was not ended by the start itself."""
DELAY_S = 1.0
"""The first wait; each further one is twice as long."""
DELAY_S_MAX = 300.0


class Replacing:
    """Decides how many pilots may be started now.

    Parameters
    ----------
    delay_s : float
        The first wait.

    Attributes
    ----------
    streak : int
        How many times in a row pilots ended early. Those that were started before the last
        one ended do not count: a node that takes twenty with it is one event.
    """

    def __init__(self, delay_s: float = DELAY_S) -> None:
        self._delay_s = delay_s
        self.streak = 0
        self._last = -1.0
        self._not_before = 0.0

    def ended(self, now: float, started: float, ran_s: float) -> None:
        """Note that a pilot ended that nobody had asked to."""
        if ran_s >= SETTLED_S:
            self.lasted(started)
        elif started > self._last:
            self.streak += 1
            self._last = now
            self._not_before = now + min(DELAY_S_MAX, self._delay_s * 2 ** min(self.streak - 1, 30))

    def lasted(self, started: float) -> None:
        """Note that a pilot has run for long enough."""
        if started > self._last:
            self.streak = 0

    def may_start(self, now: float, missing: int, young: int) -> int:
        """Return how many to start.

        Parameters
        ----------
        missing : int
            How many fewer there are than wanted.
        young : int
            How many have not run for long enough yet, or not at all.
        """
        if not self.streak:
            return missing
        if now < self._not_before or young:
            return 0
        return min(missing, 1)

    def wait_s(self, now: float) -> float:
        """Return how long nothing is started."""
        return max(0.0, self._not_before - now) if self.streak else 0.0
