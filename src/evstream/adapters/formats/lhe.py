"""LHE files: Les Houches event records (arXiv:hep-ph/0609017, arXiv:1405.1067).

Everything outside the ``<event>`` blocks comes along with each cut: header, ``<init>``
with its cross sections, ``<initrwgt>``, closing tag; everything inside one, ``<rwgt>``
and ``<weights>`` included, stays with its event. The cross sections remain the source's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from evstream.adapters.formats.text import TextFormat
from evstream.adapters.formats.text_stream import Search
from evstream.rootio import CorruptFileError, UnsupportedFeatureError

_SKIPPED = rb"<!--|<!\[CDATA\["
_BEFORE = re.compile(_SKIPPED + rb"|<init[\s>]|<event[\s>]|</LesHouchesEvents[\s>]")
_IN_INIT = re.compile(_SKIPPED + rb"|</init[\s>]")
# What precedes the first event comes along with each cut: another event behind it must not
# make a mark of a tag that is left open there. No mark's name is longer.
_OPEN = rb"<[^\s<>]{0,20}[ \t]{0,32}<event[\s>]"
_IS_OPEN = re.compile(_OPEN)
_BETWEEN = re.compile(
    _SKIPPED + rb"|[ \t]{0,32}<event[\s>]|<eventgroup[\s>]|</LesHouchesEvents[\s>]|" + _OPEN
)
_IN_EVENT = re.compile(_SKIPPED + rb"|</event[\s>]|<event[\s>]|</LesHouchesEvents[\s>]")
_AFTER = re.compile(rb"<LesHouchesEvents[\s>]|<event[\s>]")
_TAG_END = re.compile(rb">")
_LINE_END = re.compile(rb"[ \t\r]{0,32}\n?")
_COMMENT_END = re.compile(rb"-->")
_CDATA_END = re.compile(rb"\]\]>")
_OPENING = re.compile(rb"<LesHouchesEvents[\s>]")
_PROLOGUE = re.compile(rb"<\?xml[^>]*>")


class LheGrammar:
    """Where LHE events begin and end."""

    name = "lhe"
    suffixes: tuple[str, ...] = (".lhe",)

    def recognises(self, head: bytes) -> bool:
        """Look for the outermost tag."""
        text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
        if prologue := _PROLOGUE.match(text):
            text = text[prologue.end() :].lstrip()
        while text.startswith(b"<!--"):
            text = text.partition(b"-->")[2].lstrip()
        return _OPENING.match(text) is not None

    def event_starts(self, search: Search) -> list[int]:
        """Walk through the tags; comments and CDATA sections are passed over."""
        _, _, mark = _next(search, _BEFORE)
        if not mark.startswith(b"<init"):
            raise CorruptFileError(
                "there is no <init> block before the events",
                hint="the file is cut short, or damaged",
            )
        if not _next(search, _IN_INIT)[2]:
            raise _cut_short("in its <init> block")
        starts: list[int] = []
        while True:
            start, _, mark = _next(search, _BETWEEN)
            if not mark:
                raise _cut_short("before </LesHouchesEvents>")
            if _IS_OPEN.match(mark):
                raise CorruptFileError(
                    f"a tag before event {max(len(starts) - 1, 0)} has no >",
                    hint="the file is damaged",
                )
            if mark.startswith(b"<eventgroup"):
                raise UnsupportedFeatureError(
                    "its events are in groups (<eventgroup>), which must not be cut apart",
                    hint="process the file whole",
                )
            if mark.startswith(b"</"):
                starts = starts or [start]
                break
            # What stands between two events goes with the second one.
            starts = starts or [start]
            starts.append(_end_of_event(search, len(starts) - 1))
        if _next(search, _AFTER)[2]:
            raise UnsupportedFeatureError(
                "several LHE documents follow each other in it", hint="split it into files"
            )
        return starts

    def number(self, beginning: bytes) -> int | None:
        """Say that there is none: LHE events are told apart by their order."""
        return None

    def difference(self, first: bytes, other: bytes) -> str:
        """Compare cross sections, beams and the definitions of weights."""
        ours, theirs = _run_blocks(first), _run_blocks(other)
        for name in ("init", "initrwgt"):
            if ours.get(name) != theirs.get(name):
                return f"their <{name}> blocks differ"
        return ""


def _end_of_event(search: Search, event: int) -> int:
    mark = _next(search, _IN_EVENT)[2]
    if not mark.startswith(b"</event"):
        if mark:
            raise CorruptFileError(f"event {event} has no end", hint="the file is damaged")
        raise _cut_short(f"in event {event}")
    if not mark.endswith(b">"):
        search.find(_TAG_END)
    return search.find(_LINE_END, greedy=True)[1]


def _next(search: Search, marks: re.Pattern[bytes]) -> tuple[int, int, bytes]:
    """Find the next mark that is neither in a comment nor in a CDATA section."""
    while True:
        start, stop, mark = search.find(marks)
        if mark == b"<!--":
            closed = search.find(_COMMENT_END)[2]
        elif mark == b"<![CDATA[":
            closed = search.find(_CDATA_END)[2]
        else:
            return start, stop, mark
        if not closed:
            raise _cut_short("in a comment")


def _cut_short(where: str) -> CorruptFileError:
    return CorruptFileError(
        f"the file ends {where}",
        hint="the file is cut short: fetch it again, or end it with its generator",
    )


def _run_blocks(header: bytes) -> dict[str, list[bytes]]:
    """Return the words of each block that the meaning of the events depends on."""
    # Comments may show examples of both.
    plain = b"".join(_outside_comments(header))
    blocks = {}
    for name in ("init", "initrwgt"):
        opening = re.search(rb"<" + name.encode() + rb"[\s>]", plain)
        if opening:
            stop = plain.find(b"</" + name.encode(), opening.start())
            blocks[name] = plain[opening.start() : stop].split()
    return blocks


def _outside_comments(text: bytes) -> Iterator[bytes]:
    at = 0
    while (start := text.find(b"<!--", at)) >= 0 and (stop := text.find(b"-->", start)) >= 0:
        yield text[at:start]
        at = stop + 3
    yield text[at:]


def lhe_formats() -> tuple[TextFormat, ...]:
    """Return LHE, plain and gzipped."""
    return TextFormat(LheGrammar(), gzipped=False), TextFormat(LheGrammar(), gzipped=True)
