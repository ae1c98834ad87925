"""The gate before an edge's makers, as the settings have it."""

from __future__ import annotations

import sys

from evstream.domain.lanes import LaneRules
from evstream.edge.lanes import MakingLanes
from evstream.ports import Clock
from evstream.settings import Settings

SWITCH_S = 0.0005
"""How long a maker computes while the loop wants to answer; Python's own 5 ms, three or four times
for one answer and with several makers, is what a refusal may take in all."""


def lanes_of(settings: Settings, clock: Clock) -> MakingLanes:
    """Return the gate of an edge.

    Makers are threads: there are never more than those.
    """
    makers = min(settings.makers, settings.threads)
    rules = LaneRules.of(makers, settings.on_demand_share, settings.on_demand_depth)
    return MakingLanes(rules, clock)


def answer_while_making() -> None:
    """Let the loop have its turn soon while makers compute in threads of this process."""
    sys.setswitchinterval(min(SWITCH_S, sys.getswitchinterval()))
