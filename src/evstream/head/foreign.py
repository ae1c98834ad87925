"""Ranges of other workload managers: found by file and events, delivered; the books are theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evstream.domain.dataset import Fingerprint, SourceFile
from evstream.domain.descriptor import Descriptor, slice_of
from evstream.domain.errors import ConflictError, EvstreamError, NotFoundError, RequestError
from evstream.domain.intervals import Interval
from evstream.domain.names import DatasetName, Lfn
from evstream.domain.products import FoundProduct
from evstream.head.delivery_plans import DeliveryPlans
from evstream.head.slices import Slices
from evstream.ports import Catalogue, ProductCatalogue
from evstream.wire import delivery_messages as m
from evstream.wire.panda import from_panda


@dataclass(frozen=True, slots=True)
class _Unit:
    """A foreign range whose file is known."""

    asked: m.ForeignRange
    dataset: DatasetName
    file: SourceFile
    tree: str
    cut: Descriptor


class ForeignRanges:
    """Finds what delivers ranges that somebody else hands out."""

    def __init__(
        self,
        catalogue: Catalogue,
        products: ProductCatalogue,
        slices: Slices,
        plans: DeliveryPlans,
    ) -> None:
        self._catalogue = catalogue
        self._products = products
        self._slices = slices
        self._plans = plans

    async def find(self, request: m.ForeignRequest) -> list[m.ForeignAnswer]:
        """Return what each range is delivered by, best match first, or why it is not.

        A range that cannot be delivered is no reason to refuse the others.

        Raises
        ------
        RequestError
            Nothing is asked for, or a range cannot be read.
        """
        if bool(request.ranges) == bool(request.panda):
            raise RequestError("no ranges", hint="give either ranges or panda")
        asked = request.ranges or [from_panda(plain) for plain in request.panda]
        named = await self._catalogue.files_named(list({Lfn(one.lfn): None for one in asked}))
        branches: dict[tuple[Fingerprint, str], tuple[str, ...] | None] = {}
        found: list[_Unit | m.ForeignAnswer] = []
        for one in asked:
            try:
                dataset, file = choose_file(one, named[Lfn(one.lfn)])
                tree = _tree(file, request.tree)
                interval = _entries(one, file.trees[tree])
                if (file.fingerprint, tree) not in branches:
                    chosen = await self._slices.branches(file, tree, request.branches)
                    branches[file.fingerprint, tree] = chosen
                cut = slice_of(
                    file.fingerprint,
                    tree,
                    interval,
                    branches[file.fingerprint, tree],
                    file.format,
                )
                found.append(_Unit(one, dataset, file, tree, cut))
            except (RequestError, ConflictError) as error:
                found.append(_refusal(one, error))
        units = [one for one in found if isinstance(one, _Unit)]
        answers = iter(await self._answers(units, request.site))
        return [next(answers) if isinstance(one, _Unit) else one for one in found]

    async def _answers(self, units: Sequence[_Unit], site: str) -> list[m.ForeignAnswer]:
        prepared = await self._products.best_matches([unit.cut for unit in units])
        wanted = [unit.cut for unit in units]
        # What is there comes before what would have to be made.
        better = [found for found in prepared if found is not None]
        plans = await self._plans.plans(
            [*wanted, *(found.product.descriptor for found in better)], site
        )
        of_cut, of_better = plans[: len(units)], iter(plans[len(units) :])
        answers = []
        for unit, cut, found in zip(units, of_cut, prepared, strict=True):
            matches = [] if found is None else _match(unit, found, next(of_better))
            if not any(match.exact for match in matches):
                span = unit.asked.entry_stop - unit.asked.entry_start
                matches.append(m.ForeignMatch(cut, 0, span, exact=True, prepared=False))
            answers.append(
                m.ForeignAnswer(
                    unit.asked.id,
                    unit.file.lfn,
                    unit.dataset,
                    unit.file.guid,
                    unit.tree,
                    matches,
                )
            )
        return answers


def choose_file(
    one: m.ForeignRange, named: Sequence[tuple[DatasetName, SourceFile]]
) -> tuple[DatasetName, SourceFile]:
    """Return the file of a range among those of its name, the latest registered first.

    Raises
    ------
    NotFoundError
        There is none in the scope.
    ConflictError
        None has the GUID; or several files have the name, and no GUID tells them apart.
    """
    in_scope = [
        (dataset, file)
        for dataset, file in named
        if not one.scope or dataset.partition(":")[0] == one.scope
    ]
    if not in_scope:
        where = f"scope {one.scope}" if one.scope else "any dataset"
        raise NotFoundError(
            f"no file {one.lfn} is registered in {where}",
            hint="register its dataset with 'evstream dataset add'",
        )
    fitting = [
        (dataset, file)
        for dataset, file in in_scope
        if not one.guid or file.guid.lower() == one.guid.lower()
    ]
    if not fitting:
        known = in_scope[0][1].guid
        raise ConflictError(
            f"{one.lfn} has GUID {known}, not {one.guid}",
            hint="it is another file of this name: register the one that is meant",
            lfn=one.lfn,
        )
    if len({file.fingerprint for _, file in fitting}) > 1:
        raise ConflictError(
            f"several files are called {one.lfn}: in {', '.join(d for d, _ in fitting[:3])}",
            hint="give scope and GUID",
            lfn=one.lfn,
        )
    return fitting[0]


def _tree(file: SourceFile, tree: str) -> str:
    if tree in file.trees:
        return tree
    names = ", ".join(sorted(file.trees)) or "none"
    if tree:
        raise NotFoundError(f"{file.lfn} has no tree {tree}", hint=f"it has {names}")
    if len(file.trees) != 1:
        raise RequestError(f"{file.lfn} has several trees or none: {names}", hint="name one")
    return next(iter(file.trees))


def _entries(one: m.ForeignRange, entries: int) -> Interval:
    if not one.entry_start < one.entry_stop <= entries:
        raise RequestError(
            f"entries [{one.entry_start}, {one.entry_stop}) are not within [0, {entries})",
            hint="ranges are positions in the file, not event numbers",
        )
    return one.entry_start, one.entry_stop


def _refusal(one: m.ForeignRange, error: EvstreamError) -> m.ForeignAnswer:
    return m.ForeignAnswer(
        one.id, one.lfn, code=error.code, detail=error.message, hint=error.hint or ""
    )


def _match(unit: _Unit, found: FoundProduct, plan: m.PlanView) -> list[m.ForeignMatch]:
    """Return how a product that is there holds a range, if it holds it in one piece."""
    start, stop = unit.asked.entry_start, unit.asked.entry_stop
    before = 0
    for source in found.product.descriptor.sources:
        for first, last in source.entries:
            if source.fingerprint == unit.file.fingerprint and first <= start and stop <= last:
                place = before + start - first
                exact = found.product.descriptor.key == unit.cut.key
                return [
                    m.ForeignMatch(plan, place, place + stop - start, exact=exact, prepared=True)
                ]
            before += last - first
    return []
