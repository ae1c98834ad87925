"""How soon products are asked for again, learnt from the requests: what a place brings.

A product's *wait* is the number of requests, to any product, from one for it to the next. How
waits are spread is learnt for classes of products: by how often a product was asked for, and how
long its waits were so far; of those that were asked for once, by size. A class's *index* at an age
is the most that a place in the cache brings for one that has waited so long: the largest, over all
times to keep it, of the chance of a request by then divided by the mean time that the place is
taken. It is the Gittins index of a product that is kept until it is asked for or given up (Aalto,
Ayesta and Righter, "On the Gittins index in the M/G/1 queue", 2009).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

AGES = 64
"""Half octaves of waits: the last is past four thousand million requests."""
_GAPS = 36
"""Half octaves of a product's waits that are told apart."""
_COUNTS = (2, 5, 16)
"""Classes begin at so many requests."""
_SIZES = 16
"""Factors of four of sizes: products of one origin are of one size, or so."""
CLASSES = _SIZES + len(_COUNTS) * _GAPS
_HORIZON = 24
"""Half octaves ahead that are looked at."""
PRIOR_WEIGHT = 1.0
"""What is held before anything is known counts as if so many products had been seen."""
PRIOR_CHANCE = 0.12
"""It is, of what was asked for once: in each half octave so many are asked for again. Its index
falls with age then, as LRU has it."""
POOLED_WEIGHT = 20.0
"""Of what was asked for once, a size is believed to fare as all do, as if so many had been seen."""
_SEEN = (2.0, 7.0, 16.0)
"""Waits that a product of a class has had, or so, beginning with two requests."""
KEPT = 0.95
"""Of what was learnt, at each time that it is looked at again: drift is followed."""

_EDGES = np.array(
    [0.0] + [2.0 ** ((age - 0.5) / 2.0) - 1.0 for age in range(1, AGES + _HORIZON + 1)]
)
_WIDTHS = np.diff(_EDGES)


def _prior() -> NDArray[np.float64]:
    """Return the chance of a request in each half octave, by class and age.

    Whoever came at random, with a rate of which only n waits are known, comes next after a wait
    of the Lomax distribution: its shape is n, its scale the sum of these waits.
    """
    chance = np.full((CLASSES, AGES), PRIOR_CHANCE)
    since, until = _EDGES[:AGES], _EDGES[1 : AGES + 1]
    for step, seen in enumerate(_SEEN):
        for gap in range(_GAPS):
            # The mean of the logarithm of exponential waits is that much below that of their mean.
            scale = seen * 2.0 ** (0.5 * (gap + 0.5) + 0.83)
            chance[_SIZES + step * _GAPS + gap] = 1.0 - ((scale + since) / (scale + until)) ** seen
    return chance


def age_of(wait: int) -> int:
    """Return the half octave of a wait."""
    return int(2.0 * math.log2(wait + 1.0) + 0.5)


def class_of(count: int, gap: float, size: float) -> int:
    """Return the class of a product: of its size if it was asked for once, else of its waits.

    Parameters
    ----------
    count : int
        Requests for it.
    gap : float
        Its waits so far, as a smoothed logarithm to base two.
    size : float
        Bytes. Products of one task or dataset are of one size, or so, and fare alike.
    """
    if count < _COUNTS[0]:
        return min(_SIZES - 1, max(0, int(0.5 * math.log2(size)) - 4))
    step = sum(count >= least for least in _COUNTS)
    return _SIZES + (step - 1) * _GAPS + min(_GAPS - 1, int(2.0 * gap))


class Waits:
    """What was learnt of waits, and the index of each class at each age.

    Attributes
    ----------
    ended, forgotten : list of list of float
        By class and age: products that were asked for then, and that were forgotten then.
    index : array of float, shape (CLASSES, AGES)
        Requests that a place brings in the time of one request.
    """

    def __init__(self) -> None:
        self.ended = [[0.0] * AGES for _ in range(CLASSES)]
        self.forgotten = [[0.0] * AGES for _ in range(CLASSES)]
        self._prior = _prior()
        self.learn(np.zeros((CLASSES, AGES), np.int64))

    def learn(self, waiting: NDArray[np.int64]) -> None:
        """Work out the indices anew, with those that still wait, by class and age."""
        ended = np.array(self.ended)
        forgotten = np.array(self.forgotten)
        at_risk = np.cumsum((ended + forgotten + waiting)[:, ::-1], axis=1)[:, ::-1]
        # A size that was not seen before fares as others did, as far as is known.
        pooled = ended[:_SIZES].sum(axis=0) + PRIOR_WEIGHT * PRIOR_CHANCE
        pooled /= at_risk[:_SIZES].sum(axis=0) + PRIOR_WEIGHT
        prior, weight = self._prior.copy(), np.full((CLASSES, 1), PRIOR_WEIGHT)
        prior[:_SIZES], weight[:_SIZES] = pooled, POOLED_WEIGHT
        chance = (ended + weight * prior) / (at_risk + weight)
        self.index = _best_rates(np.pad(chance, ((0, 0), (0, _HORIZON))))
        self.rates: list[list[float]] = self.index.tolist()
        self.ended = (KEPT * ended).tolist()
        self.forgotten = (KEPT * forgotten).tolist()


def _best_rates(chance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return, for each class and age, the largest of chance by time over the horizons."""
    left = np.ones((len(chance), AGES))
    taken = np.zeros_like(left)
    best = np.full_like(left, 1e-12)
    for ahead in range(_HORIZON):
        here = chance[:, ahead : ahead + AGES]
        # Those that are asked for within a half octave leave halfway through it.
        taken += left * _WIDTHS[ahead : ahead + AGES] * (1.0 - 0.5 * here)
        left *= 1.0 - here
        np.maximum(best, (1.0 - left) / taken, out=best)
    return best
