"""What an edge knows of files: asked once, believed for a while, kept while the head is away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from evstream.client.edges import Edges
from evstream.domain.dataset import Fingerprint, SourceFile
from evstream.domain.descriptor import Descriptor, slice_of
from evstream.domain.errors import DescriptorUnknownError, NotFoundError, TransientError
from evstream.domain.names import Guid, Lfn, Pfn, ProductKey
from evstream.edge.information import ANSWER_S_MAX, AWAY_S, Information
from evstream.testing.virtual_time import VirtualClock, run_virtual

FRESH_S = 300.0
FILE = Fingerprint(100, "u", "d" * 64)


def file_at(*pfns: str, fingerprint: Fingerprint = FILE) -> SourceFile:
    return SourceFile(Lfn("a.root"), Guid("g"), tuple(map(Pfn, pfns)), fingerprint, {"Events": 9})


class Head:
    """A head that knows one file, and may be away or silent."""

    def __init__(self) -> None:
        self.asked = 0
        self.knows: SourceFile | None = file_at("root://one//a.root")
        self.away = self.silent = False

    async def source(self, fingerprint: Fingerprint, edge: str) -> SourceFile:
        self.asked += 1
        await asyncio.sleep(1e6 if self.silent else 0.1)
        if self.away:
            raise TransientError("the head is away")
        if self.knows is None or self.knows.fingerprint != fingerprint:
            raise NotFoundError("no such file")
        return self.knows

    async def descriptor(self, key: ProductKey) -> Descriptor:
        self.asked += 1
        found = slice_of(FILE, "Events", (0, 5), None)
        if key != found.key:
            raise DescriptorUnknownError("no such key")
        return found


def run(work: Callable[[Information, Head], Awaitable[None]]) -> None:
    async def main() -> None:
        head = Head()
        await work(Information(cast("Edges", cast("Any", head)), VirtualClock(), FRESH_S), head)

    run_virtual(main)


def now() -> float:
    return asyncio.get_running_loop().time()


def test_many_who_want_to_know_ask_once_and_it_is_believed_for_a_while() -> None:
    async def work(information: Information, head: Head) -> None:
        found = await asyncio.gather(*(information.file(FILE) for _ in range(50)))
        assert head.asked == 1
        assert {file.pfns for file in found} == {("root://one//a.root",)}
        head.knows = file_at("root://two//a.root")
        assert (await information.file(FILE)).pfns == ("root://one//a.root",)
        await asyncio.sleep(FRESH_S)
        assert (await information.file(FILE)).pfns == ("root://two//a.root",)
        assert head.asked == 2

    run(work)


def test_what_is_known_counts_while_the_head_is_away() -> None:
    async def work(information: Information, head: Head) -> None:
        await information.file(FILE)
        head.away = True
        await asyncio.sleep(2 * FRESH_S)
        assert (await information.file(FILE)).pfns == ("root://one//a.root",)
        other = Fingerprint(1, "v", "e" * 64)
        with pytest.raises(TransientError):
            await information.file(other)
        information.tell(file_at("root://url//b.root", fingerprint=other))
        assert (await information.file(other)).pfns == ("root://url//b.root",)

    run(work)


def test_the_head_goes_before_what_urls_tell() -> None:
    async def work(information: Information, head: Head) -> None:
        information.tell(file_at("root://url//a.root"))
        assert (await information.file(FILE)).pfns == ("root://one//a.root",)
        information.tell(file_at("root://url//a.root"))
        assert (await information.file(FILE)).pfns == ("root://one//a.root",)

    run(work)


def test_a_silent_head_is_waited_for_once_where_something_is_known() -> None:
    async def work(information: Information, head: Head) -> None:
        head.silent = True
        files = [Fingerprint(number, "u", "d" * 64) for number in range(20)]
        for one in files:
            information.tell(file_at("root://url//a.root", fingerprint=one))
        begun = now()
        for one in files:
            await information.file(one)
        assert now() - begun <= ANSWER_S_MAX + 1.0
        assert head.asked == 1
        # It is asked again, and believed again, once it answers.
        head.silent, head.knows = False, file_at("root://one//a.root", fingerprint=files[5])
        await asyncio.sleep(AWAY_S)
        assert (await information.file(files[5])).pfns == ("root://one//a.root",)

    run(work)


def test_what_a_file_is_that_nobody_knows_is_said() -> None:
    async def work(information: Information, head: Head) -> None:
        head.knows = None
        with pytest.raises(NotFoundError):
            await information.file(FILE)
        head.knows = file_at("root://one//a.root")
        assert (await information.file(FILE)).lfn == "a.root"

    run(work)


def test_what_a_key_stands_for_is_asked_once_for_good() -> None:
    async def work(information: Information, head: Head) -> None:
        key = slice_of(FILE, "Events", (0, 5), None).key
        assert (await information.descriptor(key)).key == key
        await asyncio.sleep(10 * FRESH_S)
        assert (await information.descriptor(key)).key == key
        assert head.asked == 1
        with pytest.raises(DescriptorUnknownError):
            await information.descriptor(ProductKey("0" * 64))

    run(work)
