"""The gate before an edge's makers, as the settings have it."""

from __future__ import annotations

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
