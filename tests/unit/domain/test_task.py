"""Tasks are refused where they cannot work, with the field and the next step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from evstream.domain.errors import LimitError, RequestError
from evstream.domain.names import DatasetName, TaskId
from evstream.domain.payload import Payload, fill_command, split_command
from evstream.domain.streams import OutputStream
from evstream.domain.task import Limits, TaskSpec, is_merge, merge_book, process_book, task_of

COPY = "cp {input} {output}"
SPEC = TaskSpec(
    name="copy",
    dataset=DatasetName("user:zmumu"),
    tree="Events",
    payload=Payload(COPY),
)


def test_a_good_task_passes() -> None:
    SPEC.check()
    replace(SPEC, outputs=(OutputStream(merge=True),)).check()
    replace(SPEC, outputs=(OutputStream(suffix=".tar.gz"),)).check()
    replace(SPEC, outputs=(OutputStream(suffix="." + 31 * "x"),), name="Z→μμ, 2nd [pass]").check()


@pytest.mark.parametrize(
    ("change", "expected", "message"),
    [
        ({"events_per_range": 0}, LimitError, "events per range is 0"),
        ({"payload": Payload(COPY, wall_s_max=0.0)}, LimitError, "wall_s_max"),
        ({"payload": Payload(COPY, wall_s_max=1e9)}, LimitError, "wall_s_max"),
        ({"limits": Limits(failures_max=0)}, LimitError, "failures_max"),
        ({"limits": Limits(losses_max=-3)}, LimitError, "losses_max"),
        ({"payload": Payload("")}, RequestError, "empty"),
        ({"payload": Payload("cp {input} 'open")}, RequestError, "close its quotes"),
        ({"payload": Payload("cp {input} somewhere")}, RequestError, "{output}"),
        ({"outputs": (OutputStream(suffix="root"),)}, RequestError, "suffix"),
        ({"outputs": (OutputStream(suffix="./x"),)}, RequestError, "suffix"),
        ({"outputs": (OutputStream(suffix="."),)}, RequestError, "suffix"),
        ({"outputs": (OutputStream(suffix="." + 32 * "x"),)}, LimitError, "33 characters"),
        ({"name": " "}, RequestError, "cannot name a task"),
        ({"name": "a\nb"}, RequestError, r"'a.nb' cannot name a task"),
        ({"name": "\x1b[2J"}, RequestError, r"'.x1b\[2J' cannot name a task"),
        ({"outputs": (OutputStream(suffix=".txt", merge=True),)}, RequestError, "cannot be merged"),
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
