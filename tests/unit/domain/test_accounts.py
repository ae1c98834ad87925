"""What work took: bins that widen, sums, and the figures that are made of them."""

from __future__ import annotations

import math

import pytest

from evstream.domain.accounts import Account, added, begin_of, bin_of, total, unreported
from evstream.domain.ledger import Progress
from evstream.domain.reports import curve, figures


def test_bins_widen_and_are_bounded() -> None:
    assert bin_of(-5.0) == bin_of(0.0) == 0
    moments = [0.0, 1.0, 60.0, 3600.0, 86_400.0, 31_536_000.0]
    numbers = [bin_of(moment) for moment in moments]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] < 4000
    for moment, number in zip(moments, numbers, strict=True):
        assert begin_of(number) <= moment + 1e-6
        assert begin_of(number + 1) > moment
        # Never much wider than a second, or a two-hundredth of what has gone by.
        assert begin_of(number + 1) - begin_of(number) <= 1.0 + moment / 200


def test_sums() -> None:
    one = Account(2, "lyon", 3, done=1, cpu_s=1.5, edge=10)
    other = Account(2, "lyon", 3, done=2, failed=1, cpu_s=0.5, replica=5)
    both = added(one, other)
    assert both == Account(2, "lyon", 3, done=3, failed=1, cpu_s=2.0, edge=10, replica=5)
    assert total([]) == Account(0, "", 0)
    assert total([one, other], 2, "lyon").done == 3


def test_figures() -> None:
    account = Account(2, "", 0, started=5, done=3, failed=1, entries=300, cpu_s=6.0, wall_s=8.0)
    account = added(account, Account(2, "", 0, starved_s=1.0, idle_s=3.0, edge=900))
    told = {figure.name: figure.value for figure in figures([account])}
    assert told["success rate"] == 75.0
    assert told["CPU over the time of payloads"] == 75.0
    assert told["CPU over the time of cores"] == 50.0
    assert told["time of cores that waited for input"] == pytest.approx(100 / 12)
    assert told["computed, a unit"] == 2.0
    assert told["bytes in, an event"] == 3.0
    nothing = {figure.name: figure.value for figure in figures([])}
    assert nothing["units done"] == 0
    assert math.isnan(nothing["success rate"])


def test_what_was_lost_with_its_workers_is_counted_too() -> None:
    told = [Account(2, "a", 0, started=4, done=3, failed=1, lost_cpu_s=5.0)]
    progress = Progress(attempts=6, failed_attempts=3, ranges_finished=3, lost_cpu_s=30.0)
    assert unreported(2, told, progress, 7) == [
        Account(2, "", 7, started=2, failed=2, lost_cpu_s=25.0)
    ]
    assert unreported(2, told, Progress(failed_attempts=1, lost_cpu_s=5.0), 7) == []
    # What was taken back is no attempt any more, but was spent all the same.
    assert unreported(2, told, Progress(), 7) == []


def test_a_curve_rises_over_sites() -> None:
    accounts = [
        Account(2, "a", 0, started=2),
        Account(2, "b", 0, started=1, done=1),
        Account(2, "a", 9, done=2),
    ]
    assert [point[1:] for point in curve(accounts)] == [(3, 1), (3, 3)]
    assert curve([]) == []
