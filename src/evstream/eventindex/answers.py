"""Questions to an event index and their answers, as the wire has them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from evstream.domain.errors import LimitError, RequestError
from evstream.domain.intervals import Interval
from evstream.eventindex.index import EventIndex, EventKeys
from evstream.eventindex.manifest import IndexedFile
from evstream.eventindex.rows import NO_LUMI, Array, Rows
from evstream.eventindex.segment import EVENTS_READ_MAX, too_many_read
from evstream.wire.event_messages import (
    EVENT_MAX,
    EVENTS_ASKED_MAX,
    EventAnswer,
    EventPlace,
    EventQuestion,
    EventSpan,
    FileOfEvents,
    PoolContainer,
)

_RUN_DIGITS_MAX = 40


def answer(index: EventIndex, question: EventQuestion) -> EventAnswer:
    """Look up what a question asks for.

    Raises
    ------
    NotFoundError
        Nothing was indexed for its dataset, or there is no file of its GUID or tree.
    LimitError
        More events would have to be told one by one than are.
    RequestError
        A range ends before it begins, or a number is none or too large.
    """
    files = index.only(question.dataset, question.guid, question.tree)
    chosen = _Chosen()
    events = list(dict.fromkeys(question.events))
    if any(event > EVENT_MAX for _, _, event in events):
        raise RequestError("an event number has more than 64 bits", hint="mend the list")
    lumis = _lumis(question.lumis)
    found = index.lookup(EventKeys.of(events), files, _left_to_read(index, question.spans))
    repeated = [events[at] for at in found.repeated().tolist()]
    told = [found.rows]
    if question.first_only:
        told = [found.rows.take(np.unique(found.keys, return_index=True)[1])]
    room = EVENTS_ASKED_MAX - len(told[0])
    for span in question.spans:
        rows = _of_span(index, span, files)
        again = _again(rows)
        repeated += dict.fromkeys(
            (run, None if lumi == NO_LUMI else lumi, event)
            for run, lumi, event, _, _ in rows.take(again).tuples()
        )
        told.append(rows.take(~again) if question.first_only else rows)
        room -= len(told[-1])
        if room < 0:
            raise _too_many()
    for rows in told:
        chosen.add(rows)
    for rows in index.in_lumis(lumis, files):
        chosen.add(rows)
    steps = chosen.steps()
    return EventAnswer(
        files=[_file(index.files[number], each) for number, each in steps.items()],
        places=_places(told, {number: at for at, number in enumerate(steps)}),
        without_lumis=[index.files[number].lfn for number in index.without_lumis(lumis, files)],
        missing=[events[at] for at in found.missing(len(events)).tolist()],
        repeated=repeated,
    )


def _places(told: list[Rows], position: dict[int, int]) -> list[EventPlace]:
    if sum(map(len, told)) > EVENTS_ASKED_MAX:
        raise _too_many()
    return [
        EventPlace(run, None if lumi == NO_LUMI else lumi, event, position[file], entry)
        for rows in told
        for run, lumi, event, file, entry in rows.tuples()
    ]


def _left_to_read(index: EventIndex, spans: Sequence[EventSpan]) -> int:
    """Return how many events may be read beside those of spans, before any is."""
    left = EVENTS_READ_MAX
    for span in spans:
        if span.first > span.last or span.last > EVENT_MAX:
            raise RequestError(
                f"events {span.first} to {span.last} of run {span.run} are no range",
                hint="give the first and the last one",
            )
        left -= index.count_in_span(span.run, span.first, span.last)
        if left < 0:
            raise too_many_read()
    return left


def _of_span(index: EventIndex, span: EventSpan, files: Array) -> Rows:
    rows = index.in_span(span.run, span.first, span.last, files)
    if len(rows) > EVENTS_ASKED_MAX:
        raise _too_many()
    return rows


def _again(rows: Rows) -> Array:
    """Return a flag for each row of a span: whether the event before it is the same."""
    again = np.zeros(len(rows), bool)
    same_number = rows.events[1:] == rows.events[:-1]
    again[1:] = same_number & (rows.lumis[1:] == rows.lumis[:-1])
    return again


class _Chosen:
    """Entries of files, each once."""

    def __init__(self) -> None:
        self._entries: dict[int, list[Array]] = defaultdict(list)

    def add(self, rows: Rows) -> None:
        order = np.argsort(rows.files, kind="stable")
        numbers, starts = np.unique(rows.files[order], return_index=True)
        if len(numbers):
            entries = np.split(rows.entries[order], starts[1:])
            for number, each in zip(numbers.tolist(), entries, strict=True):
                self._entries[number].append(each)

    def steps(self) -> dict[int, list[Interval]]:
        """Return half-open intervals of entries by the number of the file."""
        return {
            number: _intervals(np.unique(np.concatenate(pieces)))
            for number, pieces in sorted(self._entries.items())
        }


def _intervals(entries: Array) -> list[Interval]:
    """Return ascending entries, one at least, as the fewest intervals that hold them."""
    breaks = np.flatnonzero(np.diff(entries) != 1) + 1
    starts = entries[np.concatenate([[0], breaks])]
    lasts = entries[np.concatenate([breaks, [len(entries)]]) - 1]
    return list(zip(starts.tolist(), (lasts + np.uint64(1)).tolist(), strict=True))


def _too_many() -> LimitError:
    return LimitError(
        f"more than {EVENTS_ASKED_MAX} events would be told one by one",
        hint="ask for fewer, or for lumi blocks, whose events are told as intervals",
    )


def _lumis(asked: Mapping[str, Sequence[Interval]]) -> dict[int, list[Interval]]:
    """Return half-open intervals of lumi blocks by run."""
    wanted: dict[int, list[Interval]] = {}
    for text, ranges in asked.items():
        run = _run(text)
        for first, last in ranges:
            if first > last:
                raise RequestError(
                    f"lumi blocks {first} to {last} of run {run} are no range",
                    hint="give the first and the last one",
                )
            wanted.setdefault(run, []).append((first, last + 1))
    return wanted


def _run(text: str) -> int:
    # Python reads no numbers of thousands of digits.
    digits = text.isascii() and text.isdecimal() and len(text) <= _RUN_DIGITS_MAX
    if not (digits and int(text) < NO_LUMI):
        raise RequestError(f"{text[:80]!r} is no run", hint='give {"RUN": [[FIRST, LAST], ...]}')
    return int(text)


def _file(file: IndexedFile, steps: list[Interval]) -> FileOfEvents:
    pool = file.pool
    return FileOfEvents(
        lfn=file.lfn,
        guid=file.guid,
        pfns=list(file.pfns),
        uuid=file.uuid,
        size=file.size,
        digest=file.digest,
        tree=file.tree,
        entries=file.entries,
        steps=steps,
        pool=None
        if pool is None
        else PoolContainer(pool.container, pool.class_id, pool.technology, pool.link),
    )
