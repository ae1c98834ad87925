"""Lists of events and of lumi blocks, as people have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from evstream.domain.errors import RequestError
from evstream.eventindex.event_lists import parse_event, read_events, read_lumis
from evstream.wire.event_messages import EventSpan

THREE = [(1, 2, 3), (4, None, 5), (2**32 - 2, None, 2**64 - 1)]


@pytest.mark.parametrize(
    "text",
    [
        "1 2 3\n4 5\n4294967294 18446744073709551615\n",
        "\ufeff# picked\n1:2:3\r\n\r\n  4:5\r\n4294967294:18446744073709551615",
        "1,2,3\n4, 5\n4294967294,18446744073709551615",
        "1 2 3 # the first\n4 5\n4294967294 18446744073709551615# Z",
        "[[1, 2, 3], [4, 5], [4294967294, 18446744073709551615]]",
        '[{"run": 1, "event": 3, "luminosityBlock": 2}, {"runNumber": 4, "eventNumber": 5},'
        ' {"event": 18446744073709551615, "Run": 4294967294}]',
    ],
)
def test_lists_of_every_form_mean_the_same(text: str) -> None:
    assert read_events(text, "list").events == THREE


@pytest.mark.parametrize(
    "text",
    [
        "run,luminosityBlock,event\n1,2,3\n1,2,4\n",
        "# from the tree\nevent,pt,run,lumi\n3,7.5,1,2\n\n4,8.5,1,2\n",
        "runNumber eventNumber lumiBlock\n1 3 2\n1 4 2\n",
        "RunNumber;lb;EventNumber\n1;2;3\n1;2;4",
        "run\tls\tevt\n1\t2\t3\n1\t2\t4",
        "run  ls   event\n  1   2      3\n  1   2      4\n",
        "run:lumi:event\n1:2:3\n1:2:4\n",
        'run,lumi,event,note\n1,2,3,"a, ""b\nc"\n1,2,4,5" x\n',
    ],
)
def test_columns_are_known_by_their_names(text: str) -> None:
    assert read_events(text, "list").events == [(1, 2, 3), (1, 2, 4)]


def test_ranges_of_events_are_told_from_events() -> None:
    found = read_events("1:100-200\n1:5\n2 0-0\n", "list")
    assert found.events == [(1, None, 5)]
    assert found.spans == [EventSpan(1, 100, 200), EventSpan(2, 0, 0)]
    assert parse_event("7:1-2") == EventSpan(7, 1, 2)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1 2\n1 2 3 4\n", "list, line 2"),
        ("1\n", "list, line 1"),
        ("1:-2\n", "names no event"),
        ("1:4294967295:3", "lumi block 4294967295"),
        ("4294967295:3", "run 4294967295"),
        ("1:18446744073709551616", "event 18446744073709551616"),
        ("run,pt\n1,2\n", "no columns of run and event"),
        ("run,event\n1,2\n1\n", "list, line 3"),
        ("run,event\n1,2.5\n", "list, line 2"),
        ("run,event\n1,1_7\n", "list, line 2"),
        ("run,event\n1,2\n1,-5\n", "list, line 3"),
        ('run,event,note\n1,2,"5 jets\n1,3,ok\n1,4,ok\n', "list, line 2"),
        ('run,event,note\n1,2,a\n1,3,"5" jets\n1,4,ok\n', "list, line 3"),
        ("1 " + "9" * 5000, "names no event"),
        ("run,event\n1," + "9" * 5000, "list, line 2"),
        (f"[[1, {'9' * 5000}]]", "no JSON"),
        ("[[1]]", "item 0"),
        ("[[1, true]]", "item 0"),
        ('[[1, 2], {"run": 1}]', "item 1"),
        ('{"1": [[1, 2]]}', "list is no list of events"),
        ("[1, ", "no JSON"),
    ],
)
def test_what_names_no_event_is_told(text: str, told: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_events(text, "list")
    assert told in str(caught.value)


GRL = """<?xml version="1.0"?>
<!DOCTYPE LumiRangeCollection SYSTEM "http://atlas-runquery.cern.ch/LumiRangeCollection.dtd">
<LumiRangeCollection><NamedLumiRange><Name>x</Name>
<LumiBlockCollection><Run PrescaleRun="yes">266904</Run>
<LBRange Start="1" End="52"/><LBRange Start="54" End="54"/></LumiBlockCollection>
<LumiBlockCollection><Run>267073</Run><LBRange Start="3" End="9"/></LumiBlockCollection>
</NamedLumiRange></LumiRangeCollection>"""


def test_lists_of_lumi_blocks_are_read() -> None:
    assert read_lumis('{"5": [[1, 2], [4, 4]], "6": []}', "x") == {"5": [(1, 2), (4, 4)], "6": []}
    assert read_lumis(GRL, "x") == {"266904": [(1, 52), (54, 54)], "267073": [(3, 9)]}


def test_lumi_blocks_of_a_run_that_is_there_twice_add_up() -> None:
    for again in ("1", "01", " 1"):
        text = f'{{"1": [[1, 1]], "{again}": [[2, 2]]}}'
        assert read_lumis(text, "x") == {"1": [(1, 1), (2, 2)]}


def test_a_list_of_certified_lumi_blocks_is_read(shared_data: Path) -> None:
    name = "Cert_294927-306462_13TeV_EOY2017ReReco_Collisions17_JSON.txt"
    found = read_lumis((shared_data / name).read_text(), name)
    assert found["297050"][0] == (12, 137)
    assert len(found) == 474


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        '{"a": [[1, 2]]}',
        '{"1": [[2, 1]]}',
        '{"1": [[1]]}',
        '{"1": [["1", "2"]]}',
        '{"1": [[0, 4294967295]]}',
        '{"-1": [[0, 1]]}',
        '{"1_0": [[0, 1]]}',
        '{"1": {}}',
        '{"1": "12"}',
        f'{{"{"9" * 5000}": [[0, 1]]}}',
        '[["1", [[1, 2]]]]',
        "<a/>",
        "<a",
        GRL.replace("266904", "-1"),
        GRL.replace('End="52"', ""),
    ],
)
def test_what_is_no_list_of_lumi_blocks_is_told(text: str) -> None:
    with pytest.raises(RequestError, match="mask is no list of lumi blocks"):
        read_lumis(text, "mask")
