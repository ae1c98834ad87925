"""What is usual of a time that is measured again and again, and how long is too long."""

from __future__ import annotations

from dataclasses import dataclass, field

DEVIATIONS = 6.0


@dataclass(slots=True)
class Measure:
    """Mean and deviation of what was measured lately."""

    weight: float = 1 / 8
    count: int = 0
    mean: float = 0.0
    deviation: float = 0.0

    def add(self, value: float) -> None:
        """Take a measurement; of the first ones each counts as much."""
        self.count += 1
        weight = max(self.weight, 1 / self.count)
        off = value - self.mean
        self.mean += weight * off
        if self.count > 1:
            self.deviation += weight * (abs(off) - self.deviation)


@dataclass(slots=True)
class Wait:
    """How long to wait for something, by how long it took lately.

    Attributes
    ----------
    first_s : float
        Before anything was measured.
    least_s, most_s : float
        Bounds, whatever was measured.
    """

    first_s: float
    least_s: float
    most_s: float
    measure: Measure = field(default_factory=Measure)

    def took(self, seconds: float) -> None:
        """Note how long it took; or how long was waited in vain, so that longer is waited next."""
        self.measure.add(seconds)

    @property
    def too_long_s(self) -> float:
        """By then it should have come."""
        if not self.measure.count:
            return self.first_s
        usual, off = self.measure.mean, self.measure.deviation
        return min(max(2 * usual, usual + DEVIATIONS * off, self.least_s), self.most_s)
