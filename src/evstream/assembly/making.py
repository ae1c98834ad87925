"""The gate before an edge's makers and the makers behind it, as the settings have them."""

from __future__ import annotations

import os

from evstream.adapters.formats import RootMakers
from evstream.domain.lanes import LaneRules
from evstream.edge.lanes import MakingLanes
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
