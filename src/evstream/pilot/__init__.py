"""Works: claims event ranges, fetches ahead, runs the payload, streams outputs away."""

from evstream.pilot.node_cache import NodeCache
from evstream.pilot.pilot import Pilot
from evstream.pilot.settings import PilotSettings
from evstream.pilot.steps import PilotSteps, StepUnit
from evstream.pilot.summary import PilotSummary
from evstream.pilot.tools import Tools

__all__ = [
    "NodeCache",
    "Pilot",
    "PilotSettings",
    "PilotSteps",
    "PilotSummary",
    "StepUnit",
    "Tools",
]
