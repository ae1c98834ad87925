"""Output streams: what can work, alone and together."""

from __future__ import annotations

import pytest

from evstream.cli.stream_options import further_streams
from evstream.domain.errors import EvstreamError, LimitError, RequestError
from evstream.domain.payload import Payload, check_output_named
from evstream.domain.streams import (
    STREAMS_MAX,
    OutputStream,
    check_outputs_named,
    check_streams,
    variable_of,
)


@pytest.mark.parametrize(
    "stream",
    [
        OutputStream(),
        OutputStream("hist", pattern="hist_*.root"),
        OutputStream("a.b-c_d", ".tar.gz", "*.tar.gz", optional=True),
        OutputStream("events", ".hepmc.gz", entries="as input"),
    ],
)
def test_a_stream_that_can_work(stream: OutputStream) -> None:
    check_streams([stream])


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        (OutputStream("log"), "'log' cannot name"),
        (OutputStream(suffix="root"), "is not one"),
        (OutputStream(pattern="sub/*.root"), "without a folder"),
        (OutputStream(pattern="hist_*"), "end in .root"),
        (OutputStream(pattern="*" * 201 + ".root"), "206 characters"),
        (OutputStream(suffix=".txt", entries="as input"), "cannot be counted"),
        (OutputStream(suffix=".txt", merge=True), "cannot be merged"),
    ],
)
def test_a_stream_that_cannot_work_is_refused(stream: OutputStream, said: str) -> None:
    with pytest.raises(EvstreamError) as caught:
        check_streams([stream])
    assert said in str(caught.value)


def test_a_task_has_streams_within_bounds() -> None:
    for count in (0, STREAMS_MAX + 1):
        with pytest.raises(LimitError, match=f"{count} output streams"):
            check_streams([OutputStream(f"s{n}") for n in range(count)])


@pytest.mark.parametrize("name", ["hist", "HIST", "h-ist"])
def test_streams_need_names_that_the_environment_can_hold(name: str) -> None:
    others = {"hist": "hist", "HIST": "hist", "h-ist": "h.ist"}
    with pytest.raises(RequestError, match="two output streams"):
        check_streams([OutputStream(others[name]), OutputStream(name)])
    assert variable_of("h-ist.2") == "H_IST_2"


@pytest.mark.parametrize("command", ["cp {input} {output}", "cp {input} {output:main}"])
def test_the_first_output_must_be_named(command: str) -> None:
    check_output_named(command, "main")
    with pytest.raises(RequestError, match="never names"):
        check_output_named("cp {input} {output:other}", "main")


def test_flags_say_streams() -> None:
    assert further_streams(["report=.txt", "hist=hist_*.root"], merge=True) == [
        OutputStream("report", ".txt"),
        OutputStream("hist", ".root", "hist_*.root", merge=True),
    ]


@pytest.mark.parametrize("text", ["hist", "=.root", "hist=", "hist=*", "hist=a.b/c"])
def test_a_flag_that_says_no_stream_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="--stream"):
        further_streams([text], merge=False)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("{output:report}", None),
        ("{output:output}", None),
        ("{secondary:mixed}", None),
        ("{print}", None),
        ("{a:b}", None),
        ("{output:reprot}", "no such output"),
        ("{output:plots}", "no such output"),
        ("{entry_start:report}", "write {entry_start}"),
    ],
)
def test_a_command_names_outputs_that_the_task_has(word: str, said: str | None) -> None:
    streams = [OutputStream(), OutputStream("report", ".txt")]
    streams.append(OutputStream("plots", pattern="p*.root"))
    payload = Payload(f"a {{input}} {{output}} --x={word}")
    if said is None:
        check_outputs_named(streams, payload)
        return
    with pytest.raises(RequestError, match=said):
        check_outputs_named(streams, payload)
