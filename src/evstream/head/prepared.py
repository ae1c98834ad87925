"""What is prepared where, asked in the words of people and told in those of the wire."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta

from evstream.domain.dataset import Dataset, Fingerprint
from evstream.domain.descriptor import Descriptor, slice_of
from evstream.domain.errors import NotFoundError, RequestError
from evstream.domain.names import DatasetName, Pfn, ProductKey, without_secrets
from evstream.domain.products import Edge, FoundProduct, PreparedProduct, Recipe, Replica
from evstream.head.judging import Judging
from evstream.head.slices import Slices, choose_tree
from evstream.ports import Catalogue, ProductCatalogue
from evstream.wire import product_messages as m
from evstream.wire.pages import NumberedPage


class Prepared:
    """Answers what is prepared, and enters what edges say."""

    def __init__(
        self, products: ProductCatalogue, catalogue: Catalogue, slices: Slices, judging: Judging
    ) -> None:
        self._products = products
        self._judging = judging
        self._catalogue = catalogue
        self._slices = slices

    async def beat(self, name: str, beat: m.Beat) -> Edge:
        """Enter that an edge is there."""
        life = _life(beat.life_s)
        return await self._products.beat(name, beat.url, beat.kind, beat.capacity_bytes, life)

    async def edges(self) -> list[Edge]:
        """Return all edges and stores."""
        return await self._products.edges()

    async def remove_edge(self, name: str) -> None:
        """Take an edge out.

        Raises
        ------
        NotFoundError
        """
        await self._products.remove_edge(name)

    async def register(self, edge: str, held: m.HeldProducts) -> int:
        """Enter what an edge has.

        Raises
        ------
        NotFoundError, RequestError
            No such edge; a descriptor cannot be read.
        ConflictError
            Other bytes are known of a product, and this edge's are the wrong ones: nobody is sent
            to it any more.
        TransientError
            Who is wrong cannot be seen now.
        """
        products = [
            PreparedProduct(
                Descriptor.from_wire(one.descriptor), one.encoder_id, one.size, one.sha256
            )
            for one in held.products
        ]
        return await self._judging.register(edge, products, _life(held.life_s))

    async def held(self, edge: str, after: int, limit: int) -> NumberedPage[m.ProductName]:
        """Return what an edge is believed to have, a page of it.

        Raises
        ------
        NotFoundError
        """
        rows = await self._products.held_at(edge, after, limit)
        names = [m.ProductName(key, encoder) for _, key, encoder in rows]
        return NumberedPage(names, rows[-1][0] if len(rows) == limit else None)

    async def drop(self, edge: str, dropped: m.DroppedProducts) -> int:
        """Enter what an edge has no more.

        Raises
        ------
        NotFoundError
        """
        names = [(ProductKey(one.key), one.encoder_id) for one in dropped.products]
        return await self._products.drop_products(edge, names)

    async def places(self, key: ProductKey) -> list[m.FoundView]:
        """Return what there is of a key.

        Raises
        ------
        NotFoundError
            Nothing.
        """
        found = await self._products.products_of(key)
        if not found:
            raise NotFoundError(
                f"no product {key[:64]} is registered", hint="search for one that covers it"
            )
        return [_view(one) for one in found]

    async def search(self, search: m.Search) -> m.SearchAnswer:
        """Return the best match of each slice or descriptor.

        Raises
        ------
        NotFoundError, RequestError
            A slice names nothing that there is; a descriptor has several intervals.
        """
        if bool(search.slices) == bool(search.descriptors):
            raise RequestError("nothing to search for", hint="give either slices or descriptors")
        wanted = [await self._slices.describe(new) for new in search.slices]
        wanted += [Descriptor.from_wire(plain) for plain in search.descriptors]
        found = await self._products.best_matches(wanted)
        return m.SearchAnswer([None if one is None else _view(one) for one in found])

    async def ready(self, asked: m.ReadyRequest) -> m.ReadyAnswer:
        """Return what is ready of some files of a dataset.

        Raises
        ------
        NotFoundError, RequestError
            There is no such dataset, tree or branch.
        """
        dataset = await self._catalogue.dataset(DatasetName(asked.dataset))
        files = dataset.files[asked.first : asked.first + asked.files]
        if not files:
            return m.ReadyAnswer([])
        tree = choose_tree(dataset, asked.tree)
        # Whichever page is asked for, what is wanted is the same.
        model = dataset.files[0]
        branches = await self._slices.branches(model, tree, asked.branches)
        wanted = Recipe.of(slice_of(model.fingerprint, tree, (0, 1), branches, model.format))
        ready = await self._products.ready([file.fingerprint for file in files], wanted)
        stop = asked.first + len(files)
        return m.ReadyAnswer(
            [
                m.ReadyFile(file.lfn, file.trees[tree], {e: list(i) for e, i in held.items()})
                for file, held in zip(files, ready, strict=True)
            ],
            stop if stop < len(dataset.files) else None,
        )

    async def recipes(self, dataset: str, lfn: str) -> list[m.RecipeView]:
        """Return by which recipes products of a file are there.

        Raises
        ------
        NotFoundError
        """
        known = await self._catalogue.dataset(DatasetName(dataset))
        file = _files_by_lfn(known, [lfn])[lfn]
        return [_recipe_view(recipe) for recipe in await self._products.recipes(file)]

    async def count_requests(self, asked: m.WantedRequest) -> None:
        """Count requests for products, by file and recipe.

        Raises
        ------
        RequestError
            A descriptor cannot be read.
        """
        counts = []
        for one in asked.requests:
            descriptor = Descriptor.from_wire(one.descriptor)
            recipe = Recipe.of(descriptor)
            files = dict.fromkeys(source.fingerprint for source in descriptor.sources)
            counts += [(file, recipe, one.requests) for file in files]
        await self._products.count_requests(counts)

    async def most_wanted(self, dataset: str, limit: int) -> list[m.WantedView]:
        """Return what is wanted most, of a dataset or, without a name, of all.

        Raises
        ------
        NotFoundError
        """
        files, lfns = None, {}
        if dataset:
            known = await self._catalogue.dataset(DatasetName(dataset))
            lfns = {file.fingerprint: file.lfn for file in known.files}
            files = list(lfns)
        return [
            m.WantedView(
                one.fingerprint,
                _recipe_view(one.recipe),
                one.score,
                lfns.get(one.fingerprint, ""),
            )
            for one in await self._products.most_wanted(limit, files)
        ]

    async def add_replicas(self, new: m.NewReplicas) -> None:
        """Enter copies of files of a dataset.

        Raises
        ------
        NotFoundError
        """
        dataset = await self._catalogue.dataset(DatasetName(new.dataset))
        files = _files_by_lfn(dataset, [one.lfn for one in new.replicas])
        await self._products.add_replicas(
            [Replica(files[one.lfn], Pfn(one.pfn), one.site, one.state) for one in new.replicas]
        )

    async def remove_replicas(self, gone: m.NewReplicas) -> int:
        """Forget copies that were entered, named as they were or as they are shown.

        Returns
        -------
        int
            How many were known.

        Raises
        ------
        NotFoundError
        """
        dataset = await self._catalogue.dataset(DatasetName(gone.dataset))
        files = _files_by_lfn(dataset, [one.lfn for one in gone.replicas])
        named = {(files[one.lfn], one.pfn) for one in gone.replicas}
        known = await self._products.replicas([file for file, _ in named])
        return await self._products.remove_replicas(
            [
                (one.fingerprint, one.pfn)
                for one in known
                if {(one.fingerprint, text) for text in (one.pfn, without_secrets(one.pfn))} & named
            ]
        )

    async def replicas(self, name: str, lfn: str) -> list[m.ReplicaView]:
        """Return the copies of a dataset's files, or of one: registered ones, then others.

        Raises
        ------
        NotFoundError
        """
        dataset = await self._catalogue.dataset(DatasetName(name))
        if lfn:
            _files_by_lfn(dataset, [lfn])
        files = [file for file in dataset.files if lfn in ("", file.lfn)]
        added: dict[Fingerprint, list[Replica]] = defaultdict(list)
        for one in await self._products.replicas([file.fingerprint for file in files]):
            added[one.fingerprint].append(one)
        views = []
        for file in files:
            views += [
                m.ReplicaView(file.lfn, without_secrets(pfn), "", "available", registered=True)
                for pfn in file.pfns
            ]
            views += [
                m.ReplicaView(file.lfn, without_secrets(one.pfn), one.site, one.state)
                for one in added[file.fingerprint]
            ]
        return views


def _life(life_s: float | None) -> timedelta | None:
    return None if life_s is None else timedelta(seconds=life_s)


def _files_by_lfn(dataset: Dataset, lfns: Sequence[str]) -> dict[str, Fingerprint]:
    """Return the contents of files by their names; refuse names that are none."""
    files = {str(file.lfn): file.fingerprint for file in dataset.files}
    for lfn in lfns:
        if lfn not in files:
            raise NotFoundError(
                f"{dataset.name} has no file {lfn!r}", hint="see 'evstream dataset show'"
            )
    return files


def _view(found: FoundProduct) -> m.FoundView:
    product = found.product
    return m.FoundView(
        product.descriptor.key,
        product.descriptor.to_wire(),
        product.encoder_id,
        product.size,
        product.sha256,
        list(found.places),
    )


def _recipe_view(recipe: Recipe) -> m.RecipeView:
    return m.RecipeView(recipe.name, recipe.version, dict(recipe.parameters), recipe.format)
