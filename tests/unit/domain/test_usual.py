"""What is usual of times, and how long is too long."""

from __future__ import annotations

import pytest

from evstream.domain.usual import Measure, Wait


def test_measures_begin_with_what_is_measured_first() -> None:
    measure = Measure()
    measure.add(4.0)
    assert (measure.mean, measure.deviation) == (4.0, 0.0)
    measure.add(6.0)
    assert measure.mean == 5.0
    for _ in range(100):
        measure.add(1.0)
    assert measure.mean == pytest.approx(1.0, abs=0.01)
    assert measure.deviation < 0.1


def test_longer_is_waited_where_waiting_was_in_vain() -> None:
    wait = Wait(first_s=10.0, least_s=1.0, most_s=60.0)
    assert wait.too_long_s == 10.0
    for _ in range(20):
        wait.took(0.05)
    assert wait.too_long_s == 1.0
    limits = []
    for _ in range(40):
        limits.append(wait.too_long_s)
        wait.took(wait.too_long_s)
    assert limits == sorted(limits)
    assert limits[10] > 4.0
    assert limits[-1] == 60.0
