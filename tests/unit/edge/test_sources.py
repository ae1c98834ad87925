"""Sources that are away for a while, and replicas that differ in what is wrong."""

from __future__ import annotations

from contextlib import AbstractContextManager

import pytest

from evstream.adapters.formats import KnownFormats
from evstream.adapters.source.memory import MemoryOpener, MemorySource
from evstream.domain.dataset import Fingerprint, SourceFile
from evstream.domain.errors import (
    AccessError,
    DataError,
    NotFoundError,
    RequestError,
    SourceChangedError,
    TransientError,
)
from evstream.domain.names import Guid, Lfn, Pfn
from evstream.edge.sources import OpenSource, Sources
from evstream.ports import ByteSource
from evstream.testing.simulator import sample_files

((NAME, CONTENT),) = sample_files(files=1, entries=100).items()


class Opener(MemoryOpener):
    """Files in memory; those named ``down...`` do not answer, ``forbidden...`` are not opened."""

    def open(self, pfn: str) -> AbstractContextManager[ByteSource]:
        if pfn.startswith("forbidden"):
            raise AccessError(f"{pfn} is where nothing may be read")
        if pfn.startswith("down"):
            raise TransientError(f"{pfn} does not answer")
        return super().open(pfn)


def registered(*pfns: str) -> SourceFile:
    _, index = KnownFormats().inspect(MemorySource(NAME, CONTENT))
    fingerprint = Fingerprint(index.size, index.uuid, index.fingerprint)
    named = tuple(Pfn(pfn) for pfn in pfns)
    return SourceFile(Lfn("a"), Guid(index.uuid), named, fingerprint, {"Events": 100})


def sources_of(files: dict[str, bytes]) -> Sources:
    return Sources(Opener(files), KnownFormats())


def place(opened: OpenSource) -> str:
    return opened.pfn


def test_a_file_that_is_away_while_it_is_read_has_not_changed() -> None:
    files = {"a": CONTENT}
    sources = sources_of(files)
    used = sources.acquire(registered("a"), Pfn("a"))
    del files["a"]
    hint = "registered as a with 100 entries in Events: bring it back"
    with pytest.raises(NotFoundError, match=hint):
        sources.check_unchanged(used)
    with pytest.raises(NotFoundError, match=hint):
        sources.use(registered("a")).run(place)
    files["a"] = CONTENT
    sources.check_unchanged(used)
    files["a"] = CONTENT[:-1] + b"!"
    with pytest.raises(SourceChangedError):
        sources.check_unchanged(used)


@pytest.mark.parametrize("pfns", [("down", "gone"), ("gone", "down"), ("down", "other")])
def test_a_replica_that_may_come_back_outweighs_those_that_will_not(pfns: tuple[str, ...]) -> None:
    files = {"down": CONTENT, "other": sample_files(files=1, entries=50)[NAME]}
    with pytest.raises(TransientError) as caught:
        sources_of(files).use(registered(*pfns)).run(place)
    # It says of each replica what is the matter.
    assert all(pfn in caught.value.message for pfn in pfns)


def test_the_first_replica_that_can_be_read_is_taken() -> None:
    sources = sources_of({"down": CONTENT, "good": CONTENT})
    assert sources.use(registered("forbidden", "down", "gone", "good")).run(place) == "good"
    assert not sources.take_bad()


def test_a_file_without_replicas_is_not_found() -> None:
    with pytest.raises(NotFoundError, match="a has no replica"):
        sources_of({}).use(registered()).run(place)


def test_a_file_whose_metadata_cannot_be_read_any_more_is_another() -> None:
    sources = sources_of({"a": CONTENT[: len(CONTENT) // 2]})
    with pytest.raises(SourceChangedError, match="not the file that was registered: "):
        sources.use(registered("a")).run(place)


@pytest.mark.parametrize("how", ["gone", "cut", "changed"])
def test_reading_goes_on_with_another_replica(how: str) -> None:
    files = {"a": CONTENT, "b": CONTENT}
    sources = sources_of(files)
    use = sources.use(registered("a", "b"))
    assert use.run(place) == "a"
    if how == "gone":
        del files["a"]
    else:
        files["a"] = CONTENT[:-100] if how == "cut" else CONTENT[:-1] + b"!"
    begun: list[str] = []

    def last_bytes(opened: OpenSource) -> bytes:
        begun.append(opened.pfn)
        return bytes(opened.source.read_ranges([(len(CONTENT) - 10, 10)])[0])

    assert use.run(last_bytes) == CONTENT[-10:]
    assert begun[-1] == "b"
    assert [bad.pfn for bad in sources.take_bad()] == ([] if how == "gone" else ["a"])
    assert not sources.take_bad()
    assert use.run(place) == "b"
    use.close()


def test_damage_that_one_replica_shows_is_read_from_another() -> None:
    sources = sources_of({"a": CONTENT, "b": CONTENT})

    def work(opened: OpenSource) -> str:
        if opened.pfn == "a":
            raise DataError("a basket is damaged")
        return opened.pfn

    use = sources.use(registered("a", "b"))
    assert use.run(work) == "b"
    assert [(bad.pfn, bad.evidence) for bad in sources.take_bad()] == [("a", "a basket is damaged")]
    # The next one begins with what is good.
    assert sources.use(registered("a", "b")).run(place) == "b"


def test_damage_that_all_replicas_show_is_the_files_own() -> None:
    sources = sources_of({"a": CONTENT, "b": CONTENT})

    def work(opened: OpenSource) -> str:
        raise DataError("a basket is damaged")

    with pytest.raises(DataError, match="no replica of a can be read: a: a basket is damaged; b"):
        sources.use(registered("a", "b")).run(work)
    assert not sources.take_bad()
    assert sources.use(registered("a", "b")).run(place) == "a"


def test_what_no_replica_has_is_asked_of_one() -> None:
    sources = sources_of({"a": CONTENT, "b": CONTENT})
    asked: list[str] = []

    def work(opened: OpenSource) -> str:
        asked.append(opened.pfn)
        raise RequestError("there is no such tree")

    with pytest.raises(RequestError, match="there is no such tree"):
        sources.use(registered("a", "b")).run(work)
    assert asked == ["a"]
