"""How much frequency tells beside waits, learnt: the exponent that explains the requests best."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

SHARE_FIRST = 0.5
"""What is held before anything is known."""
KEPT = 0.8
"""Of what was learnt, at each time that it is looked at again."""
STEP = 0.25
"""So far the share moves towards the best each time: what it orders is not stirred at once."""
_SHARES = np.array([0.25, 0.5, 0.75])
"""Neither is ever believed alone: a cache is small, and the likelihood is of all requests."""


class Blend:
    """Takes two estimates of how often each product is asked for into one.

    Waits know what comes back soon and forget it soon; of passes that come again they have seen
    few, each with thousands of products that are no evidence of their own, and believe too much of
    them. Frequency is coarse, hard to mislead, and late where popularity drifts. Their weighted
    geometric mean is better than either. The weight is that of the largest likelihood: if each
    request fell to a product with a chance that is as its rate, how likely was what came?

    Attributes
    ----------
    share : float
        The exponent of the frequency; that of the waits' index is what is left to one.
    """

    def __init__(self) -> None:
        self.share = SHARE_FIRST
        self._scores = np.zeros(len(_SHARES))
        self._requests = 0
        self._by_waits = self._by_frequency = 0.0

    def rate(self, by_waits: float, frequency: float) -> float:
        """Return the one estimate."""
        blended: float = by_waits ** (1.0 - self.share) * frequency**self.share
        return blended

    def rates(
        self, by_waits: NDArray[np.float64], frequency: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return it for many products."""
        blended: NDArray[np.float64] = by_waits ** (1.0 - self.share) * frequency**self.share
        return blended

    def asked(self, by_waits: float, frequency: float) -> None:
        """Note what was thought of a product that is asked for now."""
        self._requests += 1
        self._by_waits += math.log(by_waits)
        self._by_frequency += math.log(frequency)

    def learn(self, by_waits: NDArray[np.float64], frequency: NDArray[np.float64]) -> None:
        """Weigh anew, with what is thought of all products that are known."""
        if not self._requests:
            return
        waits, often = np.log(by_waits), np.log(frequency)
        for place, share in enumerate(_SHARES):
            chosen = (1.0 - share) * self._by_waits + share * self._by_frequency
            of_all = math.log(np.exp((1.0 - share) * waits + share * often).sum())
            self._scores[place] = KEPT * self._scores[place] + chosen - self._requests * of_all
        self.share += STEP * (float(_SHARES[self._scores.argmax()]) - self.share)
        self._requests, self._by_waits, self._by_frequency = 0, 0.0, 0.0
