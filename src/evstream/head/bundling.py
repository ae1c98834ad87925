"""Small outputs that came with reports become one object for each task."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace

from msgspec import structs

from evstream.domain.errors import EvstreamError, TransientError
from evstream.domain.ledger import Failure, RangeReport, Success
from evstream.domain.names import TaskId
from evstream.domain.outputs import BundleName, Inside, OutputName
from evstream.domain.task import task_of
from evstream.ports import OutputStore

Contents = Mapping[str, bytes]


class Bundling:
    """Stores what reports brought: it is there for good before they count.

    The outputs' names say from then on where they are. Which of them are part of the result
    is for the ledger to say, as it is of others; a bundle stays as long as one of them is.
    """

    def __init__(self, store: OutputStore) -> None:
        self._store = store

    async def keep(
        self, checked: Sequence[RangeReport], contents: Sequence[Contents]
    ) -> list[RangeReport]:
        """Store contents of successes, those of one task together.

        Parameters
        ----------
        checked : sequence of RangeReport
            Reports whose contents are what they say.
        contents : sequence of mapping
            To each report the outputs that are to be stored, by name; to most none.

        Returns
        -------
        list of RangeReport
            Those whose outputs could not be stored as failures.

        Raises
        ------
        TransientError
            The store is away, and nothing of this may count.
        """
        together: dict[TaskId, dict[str, bytes]] = defaultdict(dict)
        for report, brought in zip(checked, contents, strict=True):
            if brought and isinstance(report.outcome, Success):
                together[task_of(report.book)] |= brought
        named: dict[str, str] = {}
        failed: dict[TaskId, str] = {}
        for task, outputs in together.items():
            try:
                named |= await self._store_together(task, outputs)
            except TransientError:
                raise
            except EvstreamError as error:
                failed[task] = error.message
        return [
            _as_stored(report, named, failed) if brought else report
            for report, brought in zip(checked, contents, strict=True)
        ]

    async def _store_together(self, task: TaskId, outputs: Contents) -> dict[str, str]:
        """Store outputs; return what each is called then."""
        if len(outputs) == 1:
            ((name, content),) = outputs.items()
            await self._store.put(name, _in_pieces([content]))
            return {name: name}
        digest = hashlib.sha256()
        for name, content in outputs.items():
            digest.update(f"{name} {len(content)}\n".encode())
            digest.update(content)
        # The same reports once more, since their answer was lost, make the same object.
        bundle = BundleName(task, digest.hexdigest()[:32])
        await self._store.put(str(bundle), _in_pieces(list(outputs.values())))
        named, offset = {}, 0
        for name, content in outputs.items():
            inside = Inside(bundle, offset, len(content))
            named[name] = str(replace(OutputName.parse(name), inside=inside))
            offset += len(content)
        return named


async def _in_pieces(contents: Sequence[bytes]) -> AsyncIterator[bytes]:
    for content in contents:
        yield content


def _as_stored(
    report: RangeReport, named: Mapping[str, str], failed: Mapping[TaskId, str]
) -> RangeReport:
    success = report.outcome
    if not isinstance(success, Success):
        return report
    if (error := failed.get(task_of(report.book))) is not None:
        return structs.replace(report, outcome=Failure("output", error, "", success.cpu_s))
    outputs = tuple(replace(one, name=named.get(one.name, one.name)) for one in success.outputs)
    return structs.replace(report, outcome=structs.replace(success, outputs=outputs))
