"""Names of outputs say which attempt made them, and nothing can hide in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evstream.domain.errors import RequestError
from evstream.domain.names import LeaseId, TaskId
from evstream.domain.outputs import OutputName, check_stream_name

COUNTS = st.integers(0, 10**12)
NAMES = st.builds(
    OutputName,
    task=COUNTS.map(TaskId),
    stream=st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,29}", fullmatch=True),
    book=COUNTS,
    chunk=COUNTS,
    entry_start=COUNTS,
    entry_stop=COUNTS,
    attempt=COUNTS,
    lease=st.from_regex(r"[A-Za-z0-9_-]{1,30}", fullmatch=True).map(LeaseId),
    suffix=st.sampled_from(["", ".root", ".tar.gz", ".parquet"]),
    number=st.integers(0, 999),
)
GOOD = "tasks/1/output/2-0-100-200.a3.lease-abc.root"


@given(NAMES)
def test_a_name_comes_back_as_it_was(name: OutputName) -> None:
    assert OutputName.parse(str(name)) == name


@given(NAMES, NAMES)
def test_different_attempts_have_different_names(one: OutputName, other: OutputName) -> None:
    assert (str(one) == str(other)) == (one == other)


def test_an_example() -> None:
    name = OutputName.parse(GOOD)
    assert (name.task, name.stream, name.book, name.chunk) == (1, "output", 2, 0)
    assert (name.entry_start, name.entry_stop, name.attempt) == (100, 200, 3)
    assert (name.lease, name.suffix) == ("lease-abc", ".root")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/" + GOOD,
        GOOD + "/..",
        GOOD.replace("-200.", "-200-0."),
        GOOD.replace("-200.", "-200-01."),
        GOOD + "\n",
        GOOD.replace("output", ".." + "/" + "output"),
        GOOD.replace("lease-abc", "../../etc/passwd"),
        GOOD.replace("lease-abc", "a.b/c"),
        GOOD.replace("tasks/1", "tasks/-1"),
        GOOD.replace("tasks/1", "tasks/one"),
        GOOD.replace(".a3", ""),
        "tasks/1/output/2-0-100.a3.lease.root",
        GOOD.replace("output", ".."),
        GOOD.replace("output", "."),
        GOOD.replace("tasks/1", "tasks/\u0661"),
    ],
)
def test_what_is_not_a_name_of_ours_is_refused(name: str) -> None:
    with pytest.raises(RequestError):
        OutputName.parse(name)


@pytest.mark.parametrize("stream", ["output", "a", "x" * 100, "muons.v2", "A-b_c"])
def test_streams_that_can_be_named(stream: str) -> None:
    assert check_stream_name(stream) == stream


@pytest.mark.parametrize("stream", ["", ".", "..", "x" * 101, "log", "a/b", "a b", "é", "a\n"])
def test_streams_that_cannot(stream: str) -> None:
    with pytest.raises(RequestError):
        check_stream_name(stream)
