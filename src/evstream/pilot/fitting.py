"""Whether what came is what was asked for, as far as that shows without reading it."""

from __future__ import annotations

from pathlib import Path

from evstream import rootio
from evstream.domain.descriptor import SLICE, Descriptor
from evstream.wire.messages import DeliveryPlan

NAMED = {("root", SLICE)}
"""Format and recipe of products that name their key in their header."""


def fits(plan: DeliveryPlan, path: Path) -> bool:
    """Say whether a product at a path is all of what its plan asks for.

    Of two products of as many events none is taken for the other, nor a half for the whole.
    Which events are in it, digests say, and edges that make it once more.
    """
    descriptor = Descriptor.from_wire(plan.descriptor)
    if (descriptor.format, descriptor.recipe) not in NAMED:
        return True
    with path.open("rb") as file:
        head = file.read(rootio.HEAD_BYTES)
    return rootio.is_whole_file_of(bytes.fromhex(plan.key), head, path.stat().st_size)
