"""Who gives a product: edges, this pilot's own cut, the service; in that order."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from functools import partial
from pathlib import Path

from msgspec import structs

from evstream.client import Service
from evstream.domain.dataset import Fingerprint
from evstream.domain.descriptor import Descriptor
from evstream.domain.errors import DataError, EvstreamError, TooLargeError
from evstream.pilot.fitting import fits
from evstream.ports import Clock, Cutter, Made, Offload
from evstream.wire.messages import DeliveryPlan

_LOG = logging.getLogger(__name__)

EDGE_ROUNDS = 2
"""So often all edges of a plan are asked; where a pilot cuts itself it need not wait for them."""
PASSED_OVER_S = 60.0
"""A source that could not be cut here is left to the service for so long."""


class Providers:
    """Has products from the nearest that gives them.

    Parameters
    ----------
    offload : Offload
        Computes digests.
    cutter : Cutter or None
        Cuts here, where no edge gives a product; None leaves that to the service.
    """

    def __init__(
        self, service: Service, clock: Clock, offload: Offload, cutter: Cutter | None
    ) -> None:
        self._service = service
        self._offload = offload
        self._clock = clock
        self._cutter = cutter
        self._passed_over: dict[Fingerprint, float] = {}

    async def give(
        self, plan: DeliveryPlan, path: Path, bytes_max: int | None = None
    ) -> Counter[str]:
        """Leave a product at a path.

        Returns
        -------
        Counter
            Bytes received, by who sent them: ``edge``, ``replica`` or ``head``.

        Raises
        ------
        EvstreamError
            Nobody could give it.
        TooLargeError
            It has more bytes than may be; none of them was received.
        """
        whole = partial(fits, plan)
        if self._cutter is None:
            return await self._service.fetch_product(plan, path, bytes_max, whole)
        descriptor = Descriptor.from_wire(plan.descriptor)
        if not self._cutter.can(descriptor) or self._is_passed_over(descriptor):
            return await self._service.fetch_product(plan, path, bytes_max, whole)
        edges, service = plan.urls[:-1], plan.urls[-1:]
        if edges:
            at_edges = structs.replace(plan, urls=edges)
            try:
                return await self._service.fetch_product(
                    at_edges, path, bytes_max, whole, EDGE_ROUNDS
                )
            except TooLargeError:
                raise
            except EvstreamError as error:
                _LOG.info("no edge gives product %s: %s", plan.key, error)
        try:
            made = await self._cutter.cut(descriptor, path, bytes_max)
            await self._compare(plan, made, path)
        except TooLargeError:
            raise
        except EvstreamError as error:
            _LOG.info("product %s is not cut here: %s", plan.key, error)
            until = self._clock.monotonic() + PASSED_OVER_S
            self._passed_over[descriptor.sources[0].fingerprint] = until
        else:
            return Counter(replica=made.read)
        at_service = structs.replace(plan, urls=service, held=[])
        return await self._service.fetch_product(at_service, path, bytes_max, whole)

    async def _compare(self, plan: DeliveryPlan, made: Made, path: Path) -> None:
        """Compare a product with what it is known to be, if it is known.

        Raises
        ------
        DataError
            It is another: the source is damaged, here or where it was made before.
        """
        if not plan.sha256 or made.etag != plan.etag:
            return
        sha256 = await self._offload(partial(_sha256, path))
        if sha256 != plan.sha256:
            raise DataError(f"product {plan.key} has sha256 {sha256}, not {plan.sha256}")

    def _is_passed_over(self, descriptor: Descriptor) -> bool:
        fingerprint = descriptor.sources[0].fingerprint
        if self._clock.monotonic() < self._passed_over.get(fingerprint, 0.0):
            return True
        self._passed_over.pop(fingerprint, None)
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
