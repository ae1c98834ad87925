"""The contract of a catalogue of products."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import ClassVar

import pytest

from evstream.domain.dataset import Fingerprint
from evstream.domain.descriptor import Descriptor, SourceSlice, slice_of
from evstream.domain.errors import ConflictError, NotFoundError, RequestError
from evstream.domain.intervals import Interval, IntervalSet
from evstream.domain.names import Pfn, ProductKey
from evstream.domain.products import (
    HALF_LIFE_S,
    FoundProduct,
    PreparedProduct,
    Recipe,
    Replica,
    wanted_part,
)
from evstream.ports.products import ProductCatalogue
from evstream.testing.contracts.suite import Suite
from evstream.testing.manual_clock import ManualClock

OpenProducts = Callable[[], AbstractAsyncContextManager[ProductCatalogue]]

FILE = Fingerprint(1000, "uuid-a", "a" * 64)
OTHER = Fingerprint(2000, "uuid-b", "b" * 64)
LIFE_S = 600.0
LIFE = timedelta(seconds=LIFE_S)
BRANCHES = ("event", "eta", "phi", "pt", "run")


def cut(
    start: int,
    stop: int,
    branches: tuple[str, ...] | None = ("pt",),
    file: Fingerprint = FILE,
    tree: str = "Events",
) -> Descriptor:
    """Describe a cut of a file."""
    return slice_of(file, tree, (start, stop), branches)


def prepared(
    descriptor: Descriptor, size: int = 100, encoder: str = "e1", byte: str = "0"
) -> PreparedProduct:
    """Return a product that was made of a descriptor."""
    return PreparedProduct(descriptor, encoder, size, byte * 64)


def names(products: list[PreparedProduct]) -> list[tuple[ProductKey, str]]:
    """Return key and encoder of each."""
    return [product.name for product in products]


async def one(products: ProductCatalogue, wanted: Descriptor) -> FoundProduct | None:
    """Return the best match of one descriptor."""
    (found,) = await products.best_matches([wanted])
    return found


async def everything_forgotten(products: ProductCatalogue) -> int:
    """Forget what may go, a few at a time; return how many went."""
    total = 0
    while count := await products.expire_products(7):
        assert count <= 7
        total += count
    return total


class ProductCatalogueContract(Suite):
    """Override `open_products`; each opening gives what was kept before."""

    durable: ClassVar[bool] = True

    @pytest.fixture
    def clock(self) -> ManualClock:
        """Make the clock that the catalogue is given."""
        return ManualClock()

    @pytest.fixture
    def open_products(self, clock: ManualClock) -> OpenProducts:
        """Make what opens the catalogue to be tested."""
        raise NotImplementedError

    @pytest.fixture
    async def products(
        self, anyio_backend: str, open_products: OpenProducts
    ) -> AsyncIterator[ProductCatalogue]:
        """Open the catalogue, with two edges in it that live for ten minutes."""
        async with open_products() as opened:
            await opened.beat("far", "https://far", capacity_bytes=10**12, life=LIFE)
            await opened.beat("near", "https://near", life=LIFE)
            yield opened

    async def test_what_is_registered_is_found(self, products: ProductCatalogue) -> None:
        """A product comes back as it was told, with the places that have it."""
        product = prepared(cut(0, 100))
        assert await products.register_products("near", [product]) == 1
        assert await products.register_products("far", [product, product]) == 1
        assert await products.register_products("far", [product]) == 0
        (found,) = await products.products_of(product.descriptor.key)
        assert found.product == product
        assert [place.name for place in found.places] == ["far", "near"]
        assert found == await one(products, cut(0, 100))
        far, near = await products.edges()
        assert (far.products, far.bytes, near.products) == (1, 100, 1)
        assert (far.url, far.capacity_bytes, far.kind) == ("https://far", 10**12, "edge")

    async def test_the_smallest_that_covers_wins(self, products: ProductCatalogue) -> None:
        """Wider intervals and more branches serve; narrower ones and fewer do not."""
        near = [
            prepared(cut(0, 1000, None), 9000),
            prepared(cut(0, 1000, ("eta", "pt")), 4000),
            prepared(cut(200, 300, ("eta", "phi", "pt")), 600),
            prepared(cut(200, 300, ("pt",)), 200),
            prepared(cut(220, 280, ("pt",)), 100),
            prepared(cut(0, 5000, ("pt",), tree="Runs"), 10),
            prepared(cut(0, 5000, ("pt",), OTHER), 20),
        ]
        await products.register_products("near", near)

        async def size(wanted: Descriptor) -> int:
            found = await one(products, wanted)
            return found.product.size if found else 0

        assert await size(cut(220, 280)) == 100
        assert await size(cut(220, 281)) == 200
        assert await size(cut(200, 300, ("eta",))) == 600
        assert await size(cut(199, 300, ("eta",))) == 4000
        assert await size(cut(0, 1, ("run",))) == 9000
        assert await size(cut(0, 1, None)) == 9000
        assert await size(cut(999, 1001)) == 0
        assert await size(cut(0, 10, ("pt",), tree="Other")) == 0
        asked = [cut(220, 280), cut(999, 1001), cut(0, 4000, ("pt",), OTHER)]
        found = await products.best_matches(asked)
        assert [match and match.product.size for match in found] == [100, None, 20]
        assert await products.best_matches([]) == []

    async def test_other_recipes_do_not_serve(self, products: ProductCatalogue) -> None:
        """All but the branches has to be equal: name, version, parameters, format."""
        plain = cut(0, 100)
        others = [
            Descriptor(plain.sources, "skim", 1, plain.parameters),
            Descriptor(plain.sources, "slice", 2, plain.parameters),
            Descriptor(plain.sources, "slice", 1, (*plain.parameters, ("where", "pt > 5"))),
            Descriptor(plain.sources, "slice", 1, plain.parameters, "parquet"),
        ]
        await products.register_products("near", [prepared(other) for other in others])
        assert await one(products, plain) is None
        for other in others:
            found = await one(products, other)
            assert found is not None
            assert found.product.descriptor == other
        kinds = {recipe.digest for recipe in await products.recipes(FILE)}
        assert kinds == {Recipe.of(other).digest for other in others}
        assert await products.recipes(OTHER) == []

    async def test_products_of_several_intervals(self, products: ProductCatalogue) -> None:
        """Each interval serves; the descriptor, and so the key, comes back as it was."""
        parts = SourceSlice(FILE, ((500, 600), (0, 10), (10, 20))), SourceSlice(OTHER, ((5, 9),))
        both = Descriptor(parts, "slice", 1, (("tree", "Events"),))
        await products.register_products("near", [prepared(both)])
        for wanted in (cut(5, 15), cut(500, 600), cut(5, 9, file=OTHER)):
            found = await one(products, wanted)
            assert found is not None
            assert found.product.descriptor == both
        assert await one(products, cut(15, 501)) is None
        with pytest.raises(RequestError):
            await products.best_matches([both])

    async def test_silent_edges_are_passed_over(
        self, products: ProductCatalogue, clock: ManualClock
    ) -> None:
        """A product is found while an edge that has it lives; stores need not beat."""
        await products.beat("tape", "root://tape", "store")
        await products.register_products("near", [prepared(cut(0, 100), 10)])
        await products.register_products("tape", [prepared(cut(0, 200), 20)])
        clock.advance(LIFE_S)
        found = await one(products, cut(0, 50))
        assert found is not None
        assert [place.name for place in found.places] == ["tape"]
        (silent,) = await products.products_of(cut(0, 100).key)
        assert silent.places == ()
        await products.beat("near", "https://near.moved", life=LIFE)
        found = await one(products, cut(0, 50))
        assert found is not None
        assert [place.url for place in found.places] == ["https://near.moved"]

    async def test_dropped_products_are_gone(self, products: ProductCatalogue) -> None:
        """What is at no edge any more is not known any more, and can come again."""
        made = [prepared(cut(n, n + 10), 10 + n) for n in range(20)]
        await products.register_products("near", made)
        await products.register_products("far", made[:5])
        assert await products.drop_products("near", names(made)) == 20
        assert await products.drop_products("near", names(made)) == 0
        assert await products.drop_products("far", [(made[0].descriptor.key, "other")]) == 0
        assert await one(products, cut(3, 13)) is not None
        assert await products.products_of(made[7].descriptor.key) == []
        assert await products.drop_products("far", names(made)) == 5
        assert await one(products, cut(3, 13)) is None
        assert await products.recipes(FILE) == []
        assert [(edge.products, edge.bytes) for edge in await products.edges()] == [(0, 0)] * 2
        assert await products.register_products("far", made) == 20
        assert await one(products, cut(3, 13)) is not None

    async def test_products_past_their_life(
        self, products: ProductCatalogue, clock: ManualClock
    ) -> None:
        """They go a few at a time; registering again begins a life again."""
        await products.beat("near", "https://near")
        made = [prepared(cut(n, n + 10)) for n in range(30)]
        await products.register_products("near", made, LIFE)
        clock.advance(LIFE_S / 2)
        await products.register_products("near", made[:10], LIFE)
        assert await products.register_products("near", made[10:12]) == 0
        clock.advance(LIFE_S / 2)
        found = await one(products, cut(3, 13))
        assert found is not None
        assert [edge.name for edge in found.places] == ["near"]
        assert await one(products, cut(12, 22)) is None
        (over,) = await products.products_of(made[12].descriptor.key)
        assert over.places == ()
        (ready,) = await products.ready([FILE], Recipe.of(cut(0, 1)))
        assert ready == {"near": IntervalSet.of([(0, 21)])}
        assert await everything_forgotten(products) == 18
        assert await one(products, cut(11, 21)) is not None
        assert await one(products, cut(12, 22)) is None
        assert (await products.edges())[1].products == 12
        clock.advance(LIFE_S)
        assert await everything_forgotten(products) == 10
        assert await one(products, cut(11, 21)) is not None

    async def test_a_removed_edge(self, products: ProductCatalogue) -> None:
        """It is gone for searches at once; what it had is forgotten by and by."""
        made = [prepared(cut(n, n + 10)) for n in range(10)]
        await products.register_products("near", made)
        await products.remove_edge("near")
        assert [edge.name for edge in await products.edges()] == ["far"]
        assert await one(products, cut(0, 10)) is None
        with pytest.raises(NotFoundError):
            await products.remove_edge("near")
        await products.beat("near", "https://again", life=LIFE)
        assert (await products.edges())[1].products == 0
        assert await products.register_products("near", made[:3]) == 3
        assert await everything_forgotten(products) == 10
        assert await one(products, cut(2, 12)) is not None
        assert await one(products, cut(3, 13)) is None

    async def test_who_has_not_beaten_registers_nothing(self, products: ProductCatalogue) -> None:
        """Products are at edges that are known."""
        with pytest.raises(NotFoundError):
            await products.register_products("nowhere", [prepared(cut(0, 1))])
        with pytest.raises(NotFoundError):
            await products.drop_products("nowhere", [])

    async def test_other_bytes_of_one_name_are_refused(self, products: ProductCatalogue) -> None:
        """One encoder makes one product of a key; another may make another."""
        product = prepared(cut(0, 100))
        await products.register_products("near", [product])
        damaged = prepared(cut(0, 100), byte="1")
        for told in ([damaged], [prepared(cut(5, 6)), damaged]):
            with pytest.raises(ConflictError):
                await products.register_products("far", told)
        with pytest.raises(ConflictError):
            await products.register_products("far", [prepared(cut(7, 8)), prepared(cut(7, 8), 7)])
        assert await one(products, cut(5, 6)) == await one(products, cut(0, 100))
        other = prepared(cut(0, 100), 50, "e2", "2")
        assert await products.register_products("far", [other]) == 1
        found = await products.products_of(product.descriptor.key)
        assert [match.product for match in found] == [product, other]
        best = await one(products, cut(0, 100))
        assert best is not None
        assert best.product == other

    async def test_bytes_that_nobody_has_count_for_nothing(
        self, products: ProductCatalogue, clock: ManualClock
    ) -> None:
        """Whatever is past its life, or was at a removed edge, gives way before it is forgotten."""
        first, second, third = (prepared(cut(0, 100), size, byte=str(size)) for size in (7, 8, 9))
        other = prepared(cut(3, 4))
        await products.register_products("near", [first, other], LIFE)
        await products.register_products("far", [first], 2 * LIFE)
        clock.advance(LIFE_S)
        await products.beat("near", "https://near")
        with pytest.raises(ConflictError):
            await products.register_products("near", [second])
        clock.advance(LIFE_S)
        assert await products.register_products("near", [second]) == 1
        found = await one(products, cut(5, 6))
        assert found is not None
        assert found.product == second
        await products.remove_edge("near")
        assert await products.register_products("far", [third]) == 1
        (known,) = await products.products_of(third.descriptor.key)
        assert known.product == third
        assert await everything_forgotten(products) == 1
        assert [(edge.products, edge.bytes) for edge in await products.edges()] == [(1, 9)]

    async def test_bytes_of_an_edge_in_quarantine_count_for_nothing(
        self, products: ProductCatalogue
    ) -> None:
        """Else it would take all others there after it; they are found where they are right."""
        wrong, right = (prepared(cut(0, 100), size, byte=str(size)) for size in (7, 8))
        await products.register_products("near", [wrong])
        with pytest.raises(ConflictError) as two:
            await products.register_products("far", [right, wrong])
        assert two.value.fields["edges"] == []
        with pytest.raises(ConflictError) as found_out:
            await products.register_products("far", [right])
        key, encoder = right.name
        named = {"key": key, "encoder_id": encoder, "edges": ["near"]}
        assert {name: found_out.value.fields[name] for name in named} == named
        await products.set_edge_state("near", "quarantined", "it disagrees")
        assert await one(products, cut(0, 100)) is None
        assert await products.register_products("far", [right]) == 1
        found = await one(products, cut(0, 100))
        assert found is not None
        assert found.product == right
        assert [place.name for place in found.places] == ["far"]
        states = {
            edge.name: (edge.state, edge.reason, edge.products) for edge in await products.edges()
        }
        assert states["near"] == ("quarantined", "it disagrees", 0)
        await products.set_edge_state("near", "draining")
        assert await products.register_products("near", [prepared(cut(3, 4))]) == 1
        assert await one(products, cut(3, 4)) is not None

    async def test_what_is_ready_where(
        self, products: ProductCatalogue, clock: ManualClock
    ) -> None:
        """For each file and edge the union of the intervals that hold enough."""
        await products.register_products(
            "near", [prepared(cut(0, 10, None)), prepared(cut(10, 30)), prepared(cut(40, 50))]
        )
        await products.register_products(
            "far", [prepared(cut(0, 5, ("pt", "run"))), prepared(cut(0, 7, file=OTHER))]
        )
        wanted = Recipe.of(cut(0, 1))
        unknown = Fingerprint(1, "", "c" * 64)
        ready = await products.ready([OTHER, unknown, FILE], wanted)
        assert [{edge: list(held) for edge, held in file.items()} for file in ready] == [
            {"far": [(0, 7)]},
            {},
            {"far": [(0, 5)], "near": [(0, 30), (40, 50)]},
        ]
        (all_branches,) = await products.ready([FILE], Recipe.of(cut(0, 1, None)))
        assert all_branches == {"near": IntervalSet.of([(0, 10)])}
        clock.advance(LIFE_S)
        assert await products.ready([FILE], wanted) == [{}]

    async def test_what_is_popular(self, products: ProductCatalogue, clock: ManualClock) -> None:
        """What a file and recipe are asked for is shared by their products."""
        cuts = [cut(0, 10), cut(10, 20), cut(0, 10, None), cut(0, 10, file=OTHER)]
        await products.register_products("near", [prepared(one) for one in cuts[:3]])
        await products.register_products("near", [prepared(cuts[3])], LIFE)
        await products.register_products("far", [prepared(cuts[0])])
        few, many = Recipe.of(cuts[0]), Recipe.of(cuts[2])
        await products.count_requests([(FILE, few, 8), (FILE, many, 6)])
        found = await products.popular(10)
        assert [one.found.product.descriptor for one in found] == cuts[:3]
        assert [one.score for one in found] == pytest.approx([4.0, 4.0, 6.0])
        assert [place.name for place in found[0].found.places] == ["far", "near"]
        assert await products.popular(2) == found[:2]
        walked = await products.popularity_after(0, 10)
        assert [one for _, one in walked][:3] == found
        assert (walked[3][1].score, walked[3][1].pinned) == (0.0, frozenset({"near"}))
        assert not any(one.pinned for _, one in walked[:3])
        assert await products.popularity_after(walked[1][0], 1) == walked[2:3]
        assert await products.popularity_after(walked[3][0], 10) == []

    async def test_what_is_wanted(self, products: ProductCatalogue, clock: ManualClock) -> None:
        """Requests count half as much after a half-life; what is cold is forgotten."""
        few, many = Recipe.of(cut(0, 1)), Recipe.of(cut(0, 1, None))
        await products.count_requests([(FILE, few, 8), (FILE, many, 1), (FILE, few, 2)])
        clock.advance(HALF_LIFE_S)
        await products.count_requests([(OTHER, many, 4), (FILE, many, 1)])
        found = await products.most_wanted(10)
        assert [(w.fingerprint, w.recipe) for w in found] == [
            (FILE, few),
            (OTHER, many),
            (FILE, many),
        ]
        assert [w.score for w in found] == pytest.approx([5.0, 4.0, 1.5])
        assert await products.most_wanted(1) == found[:1]
        assert await products.most_wanted(5, [OTHER]) == found[1:2]
        assert await everything_forgotten(products) == 0
        clock.advance(8 * HALF_LIFE_S)
        assert await everything_forgotten(products) == 1
        assert [w.recipe for w in await products.most_wanted(10, [FILE])] == [few]

    async def test_replicas(self, products: ProductCatalogue) -> None:
        """A copy is known by its PFN; telling it again changes site and state."""
        first = Replica(FILE, Pfn("root://b/a.root"), "B")
        await products.add_replicas([first, Replica(FILE, Pfn("root://a/a.root"), "A")])
        await products.add_replicas([Replica(OTHER, Pfn("root://a/b.root"), "A", "copying")])
        await products.add_replicas([Replica(FILE, Pfn("root://a/a.root"), "A", "bad")])
        found = await products.replicas([OTHER, FILE, FILE])
        assert [(r.pfn, r.site, r.state) for r in found] == [
            ("root://a/b.root", "A", "copying"),
            ("root://a/a.root", "A", "bad"),
            ("root://b/a.root", "B", "available"),
        ]
        gone = [(FILE, first.pfn), (FILE, first.pfn), (OTHER, first.pfn)]
        assert await products.remove_replicas(gone) == 1
        assert len(await products.replicas([FILE])) == 1

    async def test_odd_descriptors_are_refused(self, products: ProductCatalogue) -> None:
        """What cannot be searched for cannot be registered either."""
        odd = [cut(5, 5), cut(-1, 5), cut(0, 1 << 62)]
        odd.append(Descriptor(cut(0, 1).sources, "slice", 1, (("branches", "pt"),)))
        odd += [Descriptor(none, "slice", 1, ()) for none in ((), (SourceSlice(FILE, ()),))]
        for descriptor in odd:
            with pytest.raises(RequestError):
                await products.register_products("near", [prepared(descriptor)])
            with pytest.raises(RequestError):
                await products.best_matches([descriptor])

    async def test_what_was_registered_stays(self, open_products: OpenProducts) -> None:
        """A catalogue that is opened again knows what it was told."""
        if not self.durable:
            pytest.skip("keeps nothing")
        async with open_products() as opened:
            await opened.beat("near", "https://near")
            await opened.register_products("near", [prepared(cut(0, 100))])
        async with open_products() as again:
            found = await one(again, cut(50, 60))
            assert found is not None
            assert found.product == prepared(cut(0, 100))

    async def test_random_searches(self, products: ProductCatalogue) -> None:
        """Whatever is registered and dropped, searches find what looking at all of it finds."""
        chance = random.Random(20)
        held: dict[tuple[ProductKey, str], PreparedProduct] = {}
        for _ in range(12):
            fresh = [
                prepared(self.random_cut(chance, 400), size=chance.randrange(1, 10**6))
                for _ in range(20)
            ]
            told = [held.get(product.name, product) for product in fresh]
            told = list({product.name: product for product in told}.values())
            await products.register_products("near", told)
            held |= {product.name: product for product in told}
            gone = chance.sample(sorted(held), len(held) // 4)
            assert await products.drop_products("near", gone) == len(gone)
            for name in gone:
                del held[name]
            asked = [self.random_cut(chance, 40) for _ in range(20)]
            found = await products.best_matches(asked)
            assert [match and match.product.size for match in found] == [
                self.smallest(list(held.values()), wanted) for wanted in asked
            ]

    @staticmethod
    def random_cut(chance: random.Random, width_max: int) -> Descriptor:
        """Return a cut somewhere in the first thousand entries."""
        start = chance.randrange(1000)
        stop = start + chance.randrange(1, 1 << chance.randrange(1, width_max.bit_length()))
        branches = tuple(sorted(chance.sample(BRANCHES, chance.randrange(1, 4))))
        return cut(start, stop, None if chance.random() < 0.2 else branches)

    @staticmethod
    def smallest(held: list[PreparedProduct], wanted: Descriptor) -> int | None:
        """Return the size of the smallest product that holds all that is wanted."""
        _, (start, stop) = wanted_part(wanted)

        def covers(interval: Interval) -> bool:
            return interval[0] <= start and stop <= interval[1]

        return min(
            (
                product.size
                for product in held
                if Recipe.of(product.descriptor).serves(Recipe.of(wanted))
                and any(covers(interval) for _, interval in product.pieces)
            ),
            default=None,
        )
