"""Units cut out of a product that holds several: what arrives, and what goes wrong."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import uproot

from evstream import rootio
from evstream.adapters.formats import KnownFormats
from evstream.adapters.offload import InPlace
from evstream.adapters.source.fsspec import FsspecOpener
from evstream.domain.dataset import Fingerprint
from evstream.domain.descriptor import slice_of
from evstream.domain.errors import TransientError
from evstream.pilot.shared_products import KEPT_MAX, SharedProducts
from evstream.pilot.tools import Tools
from evstream.testing.simulator import sample_files
from evstream.wire import messages as m
from evstream.wire import work_messages as w
from tests.unit.pilot.fakes import FakeRunner

START, STOP, STEP = 30, 130, 7


@dataclass
class Edge:
    """Gives products of one source file, and counts how often it was asked."""

    folder: Path
    fetched: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.source = self.folder / "source.root"
        self.source.write_bytes(sample_files(files=1, entries=200).popitem()[1])
        self.product = self.folder / "product.root"
        rootio.cut(self.source, self.product, tree="Events", entry_start=START, entry_stop=STOP)
        self.shared = SharedProducts(Tools(FakeRunner(), KnownFormats(), InPlace(), FsspecOpener()))

    def part(self, start: int, stop: int, key: str = "k") -> w.RangePart:
        descriptor = slice_of(Fingerprint(1, "", ""), "Events", (START, STOP), None)
        plan = m.DeliveryPlan(key, descriptor.to_wire(), [f"/v1/products/{key}"])
        return w.RangePart(start, stop, plan, (START, STOP))

    async def cut(self, part: w.RangePart) -> tuple[Path, Counter[str]]:
        path = self.folder / f"{part.entry_start}-{part.entry_stop}.root"

        async def fetch() -> Counter[str]:
            self.fetched.append(part.plan.key)
            await asyncio.sleep(0)
            path.write_bytes(self.product.read_bytes())
            return Counter(edge=path.stat().st_size)

        return path, await self.shared.cut(part, path, fetch)


@pytest.fixture
def edge(tmp_path: Path) -> Edge:
    return Edge(tmp_path)


def test_each_unit_gets_its_own_entries_for_one_fetch(edge: Edge) -> None:
    bounds = [(start, min(start + STEP, STOP)) for start in range(START, STOP, STEP)]

    async def main() -> list[tuple[Path, Counter[str]]]:
        return await asyncio.gather(*(edge.cut(edge.part(*bound)) for bound in bounds))

    made = asyncio.run(main())
    assert edge.fetched == ["k"]
    assert sum(received.total() for _, received in made) == edge.product.stat().st_size
    source = uproot.open(edge.source)["Events"].arrays(library="np")
    for (path, _), (start, stop) in zip(made, bounds, strict=True):
        with uproot.open(path) as file:
            found = file["Events"].arrays(library="np")
        for branch, values in source.items():
            np.testing.assert_array_equal(found[branch], values[start:stop])


def test_the_same_unit_gets_the_same_bytes_and_no_product_has_them(edge: Edge) -> None:
    async def main() -> list[bytes]:
        return [(await edge.cut(edge.part(*bound)))[0].read_bytes() for bound in bounds]

    bounds = [(40, 50), (40, 50), (50, 60)]
    first, again, other = asyncio.run(main())
    assert first == again
    uuids = {rootio.inspect(rootio.BytesSource(data)).uuid for data in (first, other)}
    assert len(uuids) == 2


def test_who_waits_is_told_why_and_who_comes_later_tries_again(edge: Edge) -> None:
    good, asked = edge.product.read_bytes(), edge.part(40, 50)

    async def main() -> None:
        edge.product.write_bytes(good[: len(good) // 2])
        told = await asyncio.gather(
            *(edge.cut(edge.part(start, start + 5)) for start in range(40, 60, 5)),
            return_exceptions=True,
        )
        assert [type(error) for error in told] == [rootio.CorruptFileError] * 4
        assert edge.fetched == ["k"]
        edge.product.write_bytes(good)
        await edge.cut(asked)

    asyncio.run(main())
    assert edge.fetched == ["k", "k"]


def test_who_leaves_while_it_fetches_leaves_it_to_the_next(edge: Edge, tmp_path: Path) -> None:
    began = asyncio.Event()

    async def never() -> int:
        began.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def main() -> None:
        unit = edge.part(40, 50)
        leaving = asyncio.create_task(edge.shared.cut(unit, tmp_path / "left.root", never))
        await began.wait()
        next_one = asyncio.create_task(edge.cut(edge.part(50, 60)))
        leaving.cancel()
        path, _ = await next_one
        assert rootio.inspect(rootio.BytesSource(path.read_bytes())).tree("Events").entries == 10

    asyncio.run(main())
    assert edge.fetched == ["k"]


def test_few_are_kept_and_errors_are_not(edge: Edge, tmp_path: Path) -> None:
    async def away() -> int:
        raise TransientError("away")

    async def main() -> None:
        for number in range(KEPT_MAX + 1):
            await edge.cut(edge.part(40, 50, str(number)))
        with pytest.raises(TransientError, match="away"):
            await edge.shared.cut(edge.part(40, 50, "gone"), tmp_path / "x.root", away)
        await edge.cut(edge.part(50, 60, str(KEPT_MAX)))
        await edge.cut(edge.part(50, 60, "0"))

    asyncio.run(main())
    assert edge.fetched == [*map(str, range(KEPT_MAX + 1)), "0"]
