"""Two edges of a head: what one has whole, the other reads there, and the origin is left alone."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from evstream.adapters.formats import KnownFormats
from evstream.adapters.offload import InPlace
from evstream.adapters.source.memory import MemoryOpener
from evstream.assembly.edge import EdgeApplication, EdgeParts
from evstream.client import Service
from evstream.domain.dataset import Fingerprint
from evstream.domain.descriptor import Descriptor, copy_of
from evstream.domain.edges import BadReplica
from evstream.domain.errors import NotFoundError
from evstream.domain.names import Pfn
from evstream.settings import Settings
from evstream.testing.seeded_ids import SeededIds
from evstream.testing.simulator import sample_files
from evstream.testing.virtual_time import VirtualClock
from evstream.wire import messages as m
from tests.unit.edge.test_edge_prepares import read_all
from tests.unit.web.test_api import with_application

((_, CONTENT),) = sample_files(files=1, entries=100).items()
NAME = "https://origin.example.org/a.root"
SUMS = {"adler32": f"{zlib.adler32(CONTENT):08x}"}


class Counting(MemoryOpener):
    """Counts how often each file is opened."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(files)
        self.files = files
        self.opened: list[str] = []

    def open(self, pfn: str) -> Any:
        self.opened.append(pfn)
        return super().open(pfn)


def edge_at(application: Any, folder: Path, name: str, site: str) -> tuple[EdgeApplication, Any]:
    """Return an edge that copies what it reads, and what counts what it opens."""
    opener = Counting({NAME: CONTENT})
    parts = EdgeParts(VirtualClock(), SeededIds(1), InPlace(), opener, KnownFormats())
    settings = Settings(
        data_dir=str(folder / name),
        edge_name=name,
        site=site,
        cache_bytes_max=1 << 30,
        precache="always",
    )
    url = f"https://{name}.example.org"
    return EdgeApplication(application.client(), parts, settings, url, "token"), opener


async def sliced(service: Service, sums: dict[str, str]) -> Descriptor:
    """Register the file, and describe some of it."""
    new = m.NewFile(NAME, checksums=sums)
    await service.add_dataset(m.NewDataset([new], "user:x"))
    found = await service.describe_slice(m.NewSlice("user:x", "", "", 10, 20))
    return Descriptor.from_wire(found.descriptor)


def with_copy(work: Any, folder: Path, sums: dict[str, str] = SUMS) -> None:
    """Run something where the edge lyon-1 has a copy of the file, and has said so."""

    async def run(application: Any) -> None:
        service = application.client()
        wanted = await sliced(service, sums)
        lyon, _ = edge_at(application, folder, "lyon-1", "lyon")
        await lyon.joining.beat()
        await read_all(lyon.deliveries, wanted)
        await lyon.deliveries.settled()
        await lyon.telling.tell()
        await work(application, service, wanted, lyon)
        await lyon.close()
        await service.close()

    with_application(run, {NAME: CONTENT})


def of(wanted: Descriptor) -> Fingerprint:
    return wanted.sources[0].fingerprint


def test_a_file_that_another_edge_has_is_copied_from_there(tmp_path: Path) -> None:
    async def work(application: Any, service: Service, wanted: Descriptor, lyon: Any) -> None:
        bonn, opener = edge_at(application, tmp_path, "lyon-2", "lyon")
        await bonn.joining.beat()
        url, origin = (await service.edges.source(of(wanted), "lyon-2")).pfns
        assert origin == NAME
        assert url.startswith("https://lyon-1.example.org/v1/products/")
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(lyon.app)) as client:
            whole = await client.get(url)
            part = await client.get(url, headers={"Range": "bytes=100-299"})
            await lyon.cache.throw_away()
            gone = await client.get(url)
        assert whole.content == CONTENT
        assert (part.status_code, part.content) == (206, CONTENT[100:300])
        assert gone.status_code == 404
        opener.files[url] = CONTENT
        await read_all(bonn.deliveries, wanted)
        assert set(opener.opened) == {url}
        # It has its own now, and is not told to ask itself.
        await bonn.telling.tell()
        hosts = {
            name: [
                urlsplit(p).hostname for p in (await service.edges.source(of(wanted), name)).pfns
            ]
            for name in ("lyon-1", "lyon-2")
        }
        assert hosts["lyon-1"] == ["lyon-2.example.org", "origin.example.org"]
        assert hosts["lyon-2"] == ["lyon-1.example.org", "origin.example.org"]
        await bonn.close()

    with_copy(work, tmp_path)


def test_where_it_is_elsewhere_the_origin_comes_first(tmp_path: Path) -> None:
    async def work(application: Any, service: Service, wanted: Descriptor, lyon: Any) -> None:
        bonn, opener = edge_at(application, tmp_path, "bonn-1", "bonn")
        await bonn.joining.beat()
        first, url = (await service.edges.source(of(wanted), "bonn-1")).pfns
        assert (first, "lyon-1" in url) == (NAME, True)
        # And is read where the origin has gone.
        opener.files.clear()
        opener.files[url] = CONTENT
        assert await read_all(bonn.deliveries, wanted) > 0
        await bonn.close()

    with_copy(work, tmp_path)


def test_what_no_checksum_covers_is_not_given_to_others(tmp_path: Path) -> None:
    async def work(application: Any, service: Service, wanted: Descriptor, lyon: Any) -> None:
        assert lyon.cache.state.products > 0
        assert (await service.edges.source(of(wanted), "bonn-1")).pfns == (NAME,)

    with_copy(work, tmp_path, {})


def test_a_copy_that_is_gone_or_bad_or_away_is_named_to_nobody(tmp_path: Path) -> None:
    async def work(application: Any, service: Service, wanted: Descriptor, lyon: Any) -> None:
        _, url = (await service.edges.source(of(wanted))).pfns
        await service.edges.set_state("lyon-1", "maintenance")
        assert (await service.edges.source(of(wanted))).pfns == (NAME,)
        await service.edges.set_state("lyon-1", "serving")
        bad = BadReplica(of(wanted), Pfn(url), "it has another adler32")
        assert await service.edges.bad_replicas("bonn-1", [bad]) == 1
        assert (await service.edges.source(of(wanted))).pfns == (NAME,)
        states = {one.pfn: one.state for one in await service.prepared.replicas("user:x")}
        assert states == {NAME: "available"}

    with_copy(work, tmp_path)


def test_copies_are_made_nowhere_by_asking(tmp_path: Path) -> None:
    """An edge that has none says so at once, and no order of the head's places one."""

    async def work(application: Any, service: Service, wanted: Descriptor, lyon: Any) -> None:
        await lyon.cache.throw_away()
        file = await lyon._products.file(of(wanted))
        with pytest.raises(NotFoundError):
            await lyon.deliveries.open(copy_of(file.fingerprint, file.format))
        await lyon.telling.tell()
        assert (await service.edges.source(of(wanted))).pfns == (NAME,)
        assert await application._placing.plan() == 0

    with_copy(work, tmp_path)
