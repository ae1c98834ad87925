"""Who makes products: gate and makers, as the settings have them, and opinions of a head."""

from __future__ import annotations

import hashlib
import os

from evstream.adapters.formats import RootMakers
from evstream.domain.descriptor import Descriptor
from evstream.domain.lanes import Ask, Lane, LaneRules
from evstream.edge import Deliveries, Products
from evstream.edge.lanes import MakingLanes
from evstream.head.judging import Opinion
from evstream.ports import Clock
from evstream.settings import Settings


def lanes_of(settings: Settings, clock: Clock) -> MakingLanes:
    """Return the gate of an edge.

    Makers are threads: there are never more than those.
    """
    makers = min(settings.makers, settings.threads)
    rules = LaneRules.of(makers, settings.on_demand_share, settings.on_demand_depth)
    return MakingLanes(rules, clock)


def start_makers(settings: Settings) -> RootMakers:
    """Start the processes that compute for an edge; close them.

    They are begun with a core each, and more of them where those wait for their sources.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    rules = LaneRules.of(settings.makers, settings.on_demand_share, settings.on_demand_depth)
    makers = RootMakers(min(rules.at_once_max, 2 * cores + 1))
    makers.start(min(rules.at_once_max, cores))
    return makers


def opinion_of(products: Products, deliveries: Deliveries) -> Opinion:
    """Return what makes a product only to see which bytes it has."""

    async def opinion(descriptor: Descriptor, encoder_id: str) -> str:
        if (await products.identity(descriptor)).encoder_id != encoder_id:
            return ""
        delivery = await deliveries.open(descriptor, Ask(lane=Lane.BACKGROUND))
        digest = hashlib.sha256()
        try:
            async for piece in delivery.read(0, delivery.size):
                digest.update(piece)
        finally:
            delivery.close()
        return digest.hexdigest()

    return opinion
