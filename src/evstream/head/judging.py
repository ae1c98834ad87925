"""Which of two edges is wrong that have different bytes of one product."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta

from evstream.domain.descriptor import Descriptor
from evstream.domain.errors import ConflictError, EvstreamError, NotFoundError, TransientError
from evstream.domain.products import FoundProduct, PreparedProduct
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

    async def complained(self, edge: str, found: FoundProduct, sha256: str, reason: str) -> str:
        """Put whoever is wrong into quarantine; return the digest of the right bytes.

        That is an edge that sent other bytes, those who have them as they are known, or both.
        Where the product cannot be made here, what is known counts for right.

        Parameters
        ----------
        sha256 : str
            Of what the edge has sent; other than is known.
        reason : str
            Why the edge goes, if it does.

        Raises
        ------
        TransientError
            Who is wrong cannot be seen now.
        """
        known = found.product
        async with self._one_at_a_time:
            right = await self._made_again(known) or known.sha256
        if right != known.sha256:
            told = (
                f"made again by the head, product {known.name[0][:12]} has other bytes than it told"
            )
            for holder in found.places:
                await self._take_out(holder.name, told)
        if right != sha256:
            await self._take_out(edge, reason)
        return right

    async def _take_out(self, edge: str, reason: str) -> None:
        _LOG.warning("evstream: edge %s goes into quarantine: %s", edge, reason)
        # It may have been taken out meanwhile, and what it had with it.
        with suppress(NotFoundError):
            await self._products.set_edge_state(edge, "quarantined", reason)

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
            await self._take_out(wrong, reason)
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
