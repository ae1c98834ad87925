"""The benchmark's judgement on what is kept of workers that are killed."""

from __future__ import annotations

import json

import pytest

from bench.wan_parts.burn import Burnt, read_log
from bench.wan_parts.lives import Life, judge


def _ran(name, began, last, cpu_s, *, ended=True):
    return Burnt(name, (1,), began, last, cpu_s, ended)


def test_a_worker_that_is_never_idle_keeps_all_but_what_runs_when_it_is_killed():
    ran = [_ran("a", 2, 8, 6), _ran("b", 8, 14, 6), _ran("c", 14, 17, 3, ended=False)]
    other = [_ran("d", 2, 8, 6), _ran("e", 8, 14, 6), _ran("f", 17, 23, 6)]
    lives = [Life(0, 0.5, 17, True, ran), Life(0, 0.5, 23, False, other)]
    verdict = judge(lives, frozenset("abdef"))
    assert lives[0].startup_s == 2
    assert (verdict.useful_cpu_s, verdict.lost_cpu_s, verdict.in_flight_cpu_s) == (30, 3, 3)
    assert verdict.lost_units_most == 1
    # Three seconds between e and f, when there was still f to do.
    assert verdict.idle_s == 3
    assert verdict.ideal_cpu_s == pytest.approx(33)
    assert verdict.ideal_units_cpu_s == pytest.approx(12 + 21)


def test_what_ended_and_was_not_committed_counts_against_the_scheduler():
    lives = [
        Life(0, 0.5, 13, True, [_ran("a", 0, 6, 6), _ran("b", 6, 12, 6)]),
        Life(13, 13.5, 20, False, [_ran("b2", 14, 20, 6)]),
    ]
    verdict = judge(lives, frozenset(("a", "b2")))
    assert (verdict.lost_cpu_s, verdict.in_flight_cpu_s, verdict.lost_units_most) == (6, 0, 1)
    # The second after b could have been used as well.
    assert verdict.ideal_cpu_s == pytest.approx(19)
    assert verdict.ideal_units_cpu_s == pytest.approx(18)


def test_slow_cores_do_not_count_against_the_scheduler_nor_does_the_end():
    lives = [
        Life(0, 0.5, 24, False, [_ran("a", 0, 12, 6), _ran("b", 12, 24, 6)]),
        Life(0, 0.5, 24, False, [_ran("c", 0, 12, 6)]),
        Life(20, 20.5, 24, False, []),
    ]
    verdict = judge(lives, frozenset("abc"))
    assert (verdict.ideal_cpu_s, verdict.idle_s) == (18, 0)


def test_the_log_of_a_killed_attempt_may_end_within_a_line(tmp_path):
    log = tmp_path / "1-2-3-4-5-1.77"
    line = {"time": 5.0, "cpu_s": 0.0, "ended": False, "above": [7, 8]}
    log.write_text(json.dumps(line)[:9])
    assert read_log(log) is None
    later = {**line, "time": 6.0, "cpu_s": 0.9}
    log.write_text(f'{json.dumps(line)}\n{json.dumps(later)}\n{{"time": 7')
    assert read_log(log) == Burnt(log.name, (7, 8), 5.0, 6.0, 0.9, False)
