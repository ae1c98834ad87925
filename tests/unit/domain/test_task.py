"""Tasks are refused where they cannot work, with the field and the next step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from evstream.domain.errors import LimitError, RequestError
from evstream.domain.names import DatasetName, TaskId
from evstream.domain.task import (
    TaskSpec,
    fill_command,
    is_merge,
    merge_book,
    process_book,
    split_command,
    task_of,
)

SPEC = TaskSpec(
    name="copy",
    dataset=DatasetName("user:zmumu"),
    tree="Events",
    payload="cp {input} {output}",
)


def test_a_good_task_passes() -> None:
    SPEC.check()
    replace(SPEC, merge=True, output_suffix=".root").check()
    replace(SPEC, output_suffix=".tar.gz").check()
    replace(SPEC, output_suffix="." + 31 * "x", name="Z→μμ, 2nd [pass]").check()


@pytest.mark.parametrize(
    ("change", "expected", "message"),
    [
        ({"events_per_range": 0}, LimitError, "events per range is 0"),
        ({"payload_s_max": 0.0}, LimitError, "payload_s_max"),
        ({"payload_s_max": -1.0}, LimitError, "payload_s_max"),
        ({"failures_max": 0}, LimitError, "failures_max"),
        ({"losses_max": -3}, LimitError, "losses_max"),
        ({"payload": ""}, RequestError, "empty"),
        ({"payload": "cp {input} 'open"}, RequestError, "close its quotes"),
        ({"payload": "cp {input} somewhere"}, RequestError, "{output}"),
        ({"output_suffix": "root"}, RequestError, "suffix"),
        ({"output_suffix": "./x"}, RequestError, "suffix"),
        ({"output_suffix": "."}, RequestError, "suffix"),
        ({"output_suffix": "." + 32 * "x"}, LimitError, "33 characters"),
        ({"name": " "}, RequestError, "cannot name a task"),
        ({"name": "a\nb"}, RequestError, r"'a.nb' cannot name a task"),
        ({"name": "\x1b[2J"}, RequestError, r"'.x1b\[2J' cannot name a task"),
        ({"merge": True, "output_suffix": ".txt"}, RequestError, "cannot be merged"),
    ],
)
def test_what_cannot_work_is_refused(
    change: dict[str, Any], expected: type[RequestError], message: str
) -> None:
    with pytest.raises(expected, match=message.replace("{", r"\{")) as caught:
        replace(SPEC, **change).check()
    assert type(caught.value) is expected
    assert caught.value.hint


def test_commands_are_split_as_a_shell_would() -> None:
    words = split_command("python 'my analysis.py' --in={input} \"{output}\" a\\ b ''")
    assert words == ["python", "my analysis.py", "--in={input}", "{output}", "a b", ""]


def test_values_take_the_place_of_their_names_and_stay_one_word() -> None:
    words = ["x", "--in={input}", "{output}", "{entry_start}-{entry_stop}", "{other}", "{}"]
    values = {"input": "a b", "output": "$(rm)", "entry_start": "1", "entry_stop": "2"}
    assert fill_command(words, values) == ["x", "--in=a b", "$(rm)", "1-2", "{other}", "{}"]


@pytest.mark.parametrize("number", [1, 2, 10**9])
def test_books_belong_to_their_tasks(number: int) -> None:
    task = TaskId(number)
    assert task_of(process_book(task)) == task_of(merge_book(task)) == task
    assert (is_merge(process_book(task)), is_merge(merge_book(task))) == (False, True)
    assert merge_book(task) != process_book(TaskId(number + 1))


def test_a_value_that_holds_braces_is_no_placeholder() -> None:
    values = {"input": "/tmp/{output}/in.root", "output": "out.root"}
    assert fill_command(["{input}", "{output}{x}"], values) == [values["input"], "out.root{x}"]
