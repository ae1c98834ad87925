"""Tasks are refused where they cannot work, with the field and the next step."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from evstream.domain.errors import LimitError, RequestError
from evstream.domain.ledger import BookRules, Progress
from evstream.domain.names import DatasetName, Lfn, TaskId, WorkerId
from evstream.domain.payload import Payload, fill_command, split_command
from evstream.domain.splitting import Chunk
from evstream.domain.streams import OutputStream
from evstream.domain.task import Limits, TaskSpec, is_merge, merge_book, process_book, task_of

COPY = "cp {input} {output}"
SPEC = TaskSpec(
    name="copy",
    dataset=DatasetName("user:zmumu"),
    tree="Events",
    payload=Payload(COPY),
)


def test_a_small_task_may_bisect_a_thousand_times_a_large_one_ten_times_a_range() -> None:
    spec = replace(SPEC, events_per_range=10)
    chunks = [Chunk(0, Lfn("a"), 0, 15), Chunk(1, Lfn("b"), 100, 110)]
    assert spec.range_rules(chunks) == BookRules(10, 3, 30, 1000)
    assert spec.range_rules([Chunk(0, Lfn("a"), 0, 2001)]).bisections_max == 2010
    none = replace(spec, limits=Limits(bisections_max=0))
    assert none.range_rules(chunks).bisections_max == 0
    assert spec.merge_rules() == BookRules(1, 3, 30, 0)


def test_a_task_stops_where_its_limits_say() -> None:
    limits = Limits(give_up_after=5, set_aside_max=0.1)
    assert limits.stop(Progress(entries=100, own_failures=4, fatal=10)) == ""
    assert limits.stop(Progress(entries=100, own_failures=500, finished=1)) == ""
    assert limits.stop(Progress(entries=100, own_failures=5)).startswith("given up: 5 attempts")
    assert "11 of 100 events" in limits.stop(Progress(entries=100, finished=89, fatal=11))
    assert Limits().stop(Progress(entries=100, fatal=100)) == ""


def test_a_task_pauses_where_no_node_can_do_a_range() -> None:
    ann, bob, limits = WorkerId("ann"), WorkerId("bob"), Limits(node_failures_max=2)
    assert limits.pauses([ann, ann], others=False)
    assert limits.pauses([ann, bob], others=True)
    assert not limits.pauses([ann, ann], others=True), "the others may be able to"
    assert not limits.pauses([ann, bob, ann], others=False), "two more, since it was resumed"
    assert limits.pauses([ann, bob, ann, ann], others=True)
    assert not limits.pauses([], others=False)


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
        ({"limits": Limits(node_failures_max=0)}, LimitError, "node_failures_max"),
        ({"limits": Limits(bisections_max=-1)}, LimitError, "bisections_max"),
        ({"limits": Limits(give_up_after=0)}, LimitError, "give_up_after"),
        ({"limits": Limits(set_aside_max=1.5)}, LimitError, "set_aside_max"),
        ({"limits": Limits(set_aside_max=math.nan)}, LimitError, "set_aside_max"),
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
