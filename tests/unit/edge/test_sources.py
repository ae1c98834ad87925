"""Sources that are away for a while, and replicas that differ in what is wrong."""

from __future__ import annotations

from contextlib import AbstractContextManager

import pytest

from evstream.adapters.formats import KnownFormats
from evstream.adapters.source.memory import MemoryOpener, MemorySource
from evstream.domain.dataset import Fingerprint, SourceFile
from evstream.domain.errors import NotFoundError, SourceChangedError, TransientError
from evstream.domain.names import Guid, Lfn, Pfn
from evstream.edge.sources import Sources
from evstream.ports import ByteSource
from evstream.testing.simulator import sample_files

((NAME, CONTENT),) = sample_files(files=1, entries=100).items()


class Opener(MemoryOpener):
    """Files in memory; those named ``down...`` do not answer."""

    def open(self, pfn: str) -> AbstractContextManager[ByteSource]:
        if pfn.startswith("down"):
            raise TransientError(f"{pfn} does not answer")
        return super().open(pfn)


def registered(*pfns: str) -> SourceFile:
    _, index = KnownFormats().inspect(MemorySource(NAME, CONTENT))
    fingerprint = Fingerprint(index.size, index.uuid, index.fingerprint)
    named = tuple(Pfn(pfn) for pfn in pfns)
    return SourceFile(Lfn("a"), Guid(index.uuid), named, fingerprint, {"Events": 100})


def test_a_file_that_is_away_while_it_is_read_has_not_changed() -> None:
    files = {"a": CONTENT}
    sources = Sources(Opener(files), KnownFormats())
    used = sources.acquire(registered("a"))
    del files["a"]
    hint = "registered as a with 100 entries in Events: bring it back"
    with pytest.raises(NotFoundError, match=hint):
        sources.check_unchanged(used)
    with pytest.raises(NotFoundError, match=hint):
        sources.acquire(registered("a"))
    files["a"] = CONTENT
    sources.check_unchanged(used)
    files["a"] = CONTENT[:-1] + b"!"
    with pytest.raises(SourceChangedError):
        sources.check_unchanged(used)


@pytest.mark.parametrize("pfns", [("down", "gone"), ("gone", "down"), ("down", "other")])
def test_a_replica_that_may_come_back_outweighs_those_that_will_not(pfns: tuple[str, ...]) -> None:
    files = {"down": CONTENT, "other": sample_files(files=1, entries=50)[NAME]}
    with pytest.raises(TransientError):
        Sources(Opener(files), KnownFormats()).acquire(registered(*pfns))


def test_the_first_replica_that_can_be_read_is_taken() -> None:
    files = {"down": CONTENT, "good": CONTENT}
    sources = Sources(Opener(files), KnownFormats())
    assert sources.acquire(registered("down", "gone", "good")).pfn == "good"


def test_a_file_whose_metadata_cannot_be_read_any_more_is_another() -> None:
    sources = Sources(Opener({"a": CONTENT[: len(CONTENT) // 2]}), KnownFormats())
    with pytest.raises(SourceChangedError, match="not the file that was registered: "):
        sources.acquire(registered("a"))
