"""States carry PanDA's numbers and JEDI's words; nothing may shift them."""

from __future__ import annotations

from evstream.domain.states import Answer, RangeState, TaskState


def test_range_states_are_pandas() -> None:
    assert {state.name.lower(): state.value for state in RangeState} == {
        "ready": 0,
        "sent": 1,
        "running": 2,
        "finished": 3,
        "cancelled": 4,
        "discarded": 5,
        "done": 6,
        "failed": 7,
        "fatal": 8,
        "merged": 9,
        "corrupted": 10,
    }


def test_task_states_end_or_do_not() -> None:
    assert {state.value: state.final for state in TaskState} == {
        "running": False,
        "paused": False,
        "merging": False,
        "done": True,
        "finished": True,
        "failed": True,
        "aborted": True,
    }


def test_answers_are_the_three() -> None:
    assert [answer.value for answer in Answer] == ["accepted", "already_accepted", "superseded"]
