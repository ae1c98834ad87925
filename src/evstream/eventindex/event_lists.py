"""What people ask an event index for: lists of events, and lists of lumi blocks.

Events come as lines (``run event``, ``run lumi event``, with spaces, colons or commas between:
EventIndex and edmPickEvents take such), as CSV with a header, or as JSON. Lumi blocks come as
CMS's JSON of certified ones or as an ATLAS good-run list in XML.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

from evstream.domain.errors import RequestError
from evstream.wire.event_messages import EVENT_MAX, RUN_MAX, EventKey, EventSpan

LumiList = dict[str, list[tuple[int, int]]]
"""Lumi blocks by run, both ends inclusive."""


class Asked(NamedTuple):
    """Events and ranges of event numbers."""

    events: list[EventKey]
    spans: list[EventSpan]


_COLUMNS = {
    "run": ("run", "runnumber", "run_number"),
    "lumi": ("lumi", "luminosityblock", "lumiblock", "lumi_block", "ls", "lb"),
    "event": ("event", "eventnumber", "event_number", "evt"),
}
_BETWEEN = r"[\s:,;]+"
# No number is longer; Python reads none of thousands of digits.
_DIGITS = "[0-9]{1,40}"
_NUMBER = re.compile(_DIGITS)
_NUMBERS = re.compile(rf"{_DIGITS}(?:{_BETWEEN}{_DIGITS}){{1,2}}")
_SPAN = re.compile(rf"({_DIGITS}){_BETWEEN}({_DIGITS})-({_DIGITS})")


def read_events(text: str, name: str) -> Asked:
    """Read a list of events.

    Parameters
    ----------
    name : str
        What errors call it.

    Raises
    ------
    RequestError
        It is none of the forms that are known; the line is named.
    """
    stripped = text.lstrip("\ufeff \t\r\n")
    if stripped[:1] in ("[", "{"):
        return Asked(_from_json(stripped, name), [])
    lines = [
        (number, line.strip())
        for number, line in enumerate(text.lstrip("\ufeff").splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if lines and re.search("[A-Za-z]", lines[0][1].partition("#")[0]):
        return Asked(_from_csv(lines, name), [])
    asked = Asked([], [])
    for number, line in lines:
        one = parse_event(line.partition("#")[0], f"{name}, line {number}: ")
        (asked.spans if isinstance(one, EventSpan) else asked.events).append(one)  # type: ignore[arg-type]
    return asked


def parse_event(text: str, where: str = "") -> EventKey | EventSpan:
    """Read one event, as in ``362062:1234`` or ``1:17:1601``, or a range, as in ``1:100-200``.

    Raises
    ------
    RequestError
    """
    text = text.strip()
    if (span := _SPAN.fullmatch(text)) is not None:
        run, _, first = _key([int(span[1]), int(span[2])], where + text)
        _, _, last = _key([run, int(span[3])], where + text)
        return EventSpan(run, first, last)
    if _NUMBERS.fullmatch(text) is None:
        raise RequestError(
            f"{where}{text[:80]!r} names no event",
            hint="give RUN:EVENT, RUN:LUMI:EVENT or RUN:FIRST-LAST",
        )
    return _key([int(word) for word in re.split(_BETWEEN, text)], where + text)


def read_lumis(text: str, name: str) -> LumiList:
    """Read a list of lumi blocks, and return it as CMS's JSON has it.

    Raises
    ------
    RequestError
        It is neither CMS's JSON nor an ATLAS good-run list.
    """
    try:
        return _from_grl(text) if text.lstrip("\ufeff \r\n\t")[:1] == "<" else _from_mask(text)
    except (ValueError, TypeError, ET.ParseError, RecursionError) as error:
        raise RequestError(
            f"{name} is no list of lumi blocks: {error}",
            hint='give {"RUN": [[FIRST, LAST], ...]} or an ATLAS good-run list (XML)',
        ) from error


def _from_mask(text: str) -> LumiList:
    # As pairs: a run that is there twice has the lumi blocks of both.
    content = json.loads(text, object_pairs_hook=tuple)
    if not isinstance(content, tuple):
        raise TypeError("it has no runs")
    found: LumiList = {}
    for run, ranges in content:
        if not isinstance(ranges, list):
            raise TypeError(f"run {run} has no list of lumi blocks")
        blocks = found.setdefault(str(_checked(_number(run), RUN_MAX, "run")), [])
        blocks += [_blocks(first, last) for first, last in ranges]
    return found


def _from_grl(text: str) -> LumiList:
    # Expat bounds what entities grow to; nothing is fetched.
    top = ET.fromstring(text)  # noqa: S314
    found: LumiList = {}
    for collection in top.iter("LumiBlockCollection"):
        run = collection.findtext("Run")
        if run is None:
            raise ValueError("a LumiBlockCollection has no Run")
        ranges = found.setdefault(str(_checked(_number(run), RUN_MAX, "run")), [])
        for each in collection.iter("LBRange"):
            ranges.append(_blocks(_number(each.get("Start", "")), _number(each.get("End", ""))))
    if not found:
        raise ValueError("it has no LumiBlockCollection")
    return found


def _blocks(first: Any, last: Any) -> tuple[int, int]:
    for number in (first, last):
        if isinstance(number, bool) or not isinstance(number, int):
            raise TypeError(f"{number!r} is no lumi block")
        _checked(number, RUN_MAX, "lumi block")
    if first > last:
        raise ValueError(f"[{first}, {last}] ends before it begins")
    return first, last


def _from_json(text: str, name: str) -> list[EventKey]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{name} is no JSON: {error}", hint="mend the file") from error
    if not isinstance(content, list):
        raise RequestError(
            f"{name} is no list of events", hint="a list of lumi blocks is given with --lumis"
        )
    return [_from_item(item, f"{name}, item {place}") for place, item in enumerate(content)]


def _from_item(item: Any, where: str) -> EventKey:
    if isinstance(item, Mapping):
        item = [item[column] for column in _columns(list(item), where) if column is not None]
    if not isinstance(item, list) or not all(type(value) is int for value in item):
        raise RequestError(
            f"{where} names no event", hint='give [run, event] or {"run": …, "event": …}'
        )
    return _key(item, where)


def _from_csv(lines: Sequence[tuple[int, str]], name: str) -> list[EventKey]:
    header = lines[0][1]
    rows = _rows(lines, name)
    names = [word.strip() for word in next(rows)[1]]
    wanted = [names.index(column) for column in _columns(names, name) if column is not None]
    found = []
    for at_line, row in rows:
        number, line = lines[at_line]
        where = f"{name}, line {number}"
        try:
            found.append(_key([_number(row[at]) for at in wanted], where))
        except (ValueError, IndexError) as error:
            raise RequestError(
                f"{where}: {line[:80]!r} names no event", hint=f"its columns are {header[:80]}"
            ) from error
    return found


def _rows(lines: Sequence[tuple[int, str]], name: str) -> Iterator[tuple[int, list[str]]]:
    """Yield rows with the positions of the lines that they end in."""
    delimiter = next((mark for mark in ",;\t:" if mark in lines[0][1]), None)
    if delimiter is None:
        # Columns may be aligned.
        yield from ((at, line.split()) for at, (_, line) in enumerate(lines))
        return
    rows = csv.reader((line for _, line in lines), delimiter=delimiter, strict=True)
    at = 0
    try:
        for row in rows:
            yield rows.line_num - 1, row
            at = rows.line_num
    except csv.Error as error:
        raise RequestError(
            f"{name}, line {lines[min(at, len(lines) - 1)][0]}: {error}",
            hint="close what is quoted; a quote within is written twice",
        ) from error


def _columns(names: Iterable[str], where: str) -> list[str | None]:
    """Return which names stand for run, lumi block (if any) and event."""
    folded = {name.lower().strip(): name for name in reversed(list(names))}
    found = [
        next((folded[word] for word in words if word in folded), None)
        for words in _COLUMNS.values()
    ]
    if found[0] is None or found[2] is None:
        raise RequestError(
            f"{where} has no columns of run and event",
            hint="call them run and event, and luminosityBlock if there is one",
        )
    return found


def _key(numbers: Sequence[int], where: str) -> EventKey:
    if len(numbers) not in (2, 3):
        raise RequestError(f"{where} names no event", hint="give run, lumi block and event")
    try:
        run = _checked(numbers[0], RUN_MAX, "run")
        lumi = None if len(numbers) == 2 else _checked(numbers[1], RUN_MAX, "lumi block")
        return run, lumi, _checked(numbers[-1], EVENT_MAX, "event")
    except ValueError as error:
        raise RequestError(
            f"{where}: {error}", hint="give numbers as the files have them"
        ) from error


def _number(text: str) -> int:
    if _NUMBER.fullmatch(text.strip()) is None:
        raise ValueError(f"{text[:80]!r} is no whole number")
    return int(text)


def _checked(number: int, largest: int, what: str) -> int:
    if not 0 <= number <= largest:
        raise ValueError(f"{what} {number} is not from 0 to {largest}")
    return number
