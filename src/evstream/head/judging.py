"""Which of two edges is wrong that have different bytes of one product."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

from evstream.domain.descriptor import Descriptor
from evstream.domain.errors import ConflictError, EvstreamError, NotFoundError, TransientError
from evstream.domain.products import PreparedProduct
from evstream.ports import ProductCatalogue

_LOG = logging.getLogger(__name__)

TRIES = 5
"""So often a source that does not answer is asked again before a conflict is decided without it."""
TRIED_MAX = 10_000

Opinion = Callable[[Descriptor, str], Awaitable[str]]
"""Makes a product by an encoder, and returns the sha256 of its bytes; empty if it has another."""


class Judging:
    """Enters what edges have; where two disagree, it puts the one that is wrong into quarantine.

    Parameters
    ----------
    opinion : callable
        Makes the product a third time, beside the two that disagree.

    Attributes
    ----------
    judged : Counter of str
        Conflicts, by who was found wrong: whoever told of it ("teller"), who had it before
        ("holder"), or nobody could say ("unknown"): then it is whoever told of it last.
    """

    def __init__(self, products: ProductCatalogue, opinion: Opinion) -> None:
        self._products = products
        self._opinion = opinion
        self._one_at_a_time = asyncio.Lock()
        self._tried: Counter[tuple[str, str]] = Counter()
        self.judged = Counter({"teller": 0, "holder": 0, "unknown": 0})

    async def register(
        self, edge: str, products: Sequence[PreparedProduct], life: timedelta | None
    ) -> int:
        """Enter what an edge has; return how many it did not have before.

        Raises
        ------
        NotFoundError
            No such edge.
        ConflictError
            It is wrong about one of them, and is in quarantine now.
        TransientError
            Others have other bytes, and who is right cannot be seen now.
        """
        try:
            return await self._products.register_products(edge, products, life)
        except ConflictError:
            pass
        # Making a product costs more than anything else that heads do.
        async with self._one_at_a_time:
            while True:
                try:
                    return await self._products.register_products(edge, products, life)
                except ConflictError as error:
                    if await self._decide(edge, products, error) == "teller":
                        raise

    async def _decide(
        self, edge: str, products: Sequence[PreparedProduct], conflict: ConflictError
    ) -> str:
        """Put whoever is wrong into quarantine; return whether that is the teller or holders."""
        name = (str(conflict.fields["key"]), str(conflict.fields["encoder_id"]))
        holders = [str(one) for one in conflict.fields["edges"]]  # type: ignore[attr-defined]
        found, reason = "teller", conflict.message
        if holders:
            told = next(one for one in products if one.name == name)
            right = await self._made_again(told)
            found = {"": "unknown", told.sha256: "holder"}.get(right, "teller")
            if right:
                reason += ": made again by the head, it has others than this edge's"
        self.judged[found] += 1
        for wrong in holders if found == "holder" else [edge]:
            _LOG.warning("evstream: edge %s goes into quarantine: %s", wrong, reason)
            try:
                await self._products.set_edge_state(wrong, "quarantined", reason)
            except NotFoundError:
                continue  # It has been taken out meanwhile, and what it had with it.
        return "holder" if found == "holder" else "teller"

    async def _made_again(self, told: PreparedProduct) -> str:
        """Return what a product's digest is; nothing if that cannot be found out.

        Raises
        ------
        TransientError
            Its source does not answer now.
        """
        try:
            right = await self._opinion(told.descriptor, told.encoder_id)
        except TransientError:
            if len(self._tried) > TRIED_MAX:
                self._tried.clear()
            self._tried[told.name] += 1
            if self._tried[told.name] < TRIES:
                raise
            right = ""
        except EvstreamError as error:
            _LOG.warning("evstream: product %s cannot be made here: %s", told.name[0][:12], error)
            right = ""
        self._tried.pop(told.name, None)
        return right
