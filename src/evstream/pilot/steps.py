"""What an experiment adds to a pilot: a class of its own, called at each step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from evstream.domain.payload import Payload

STEPS_VERSION = 1
"""Goes up when a step is called in another way; new steps do nothing, so they change nothing."""

Blame = Literal["payload", "input", "node"]


@dataclass(frozen=True, slots=True)
class StepUnit:
    """A unit of work, as steps see it.

    Attributes
    ----------
    payload : Payload
        The task's.
    values : mapping of str to str
        What the placeholders stand for: ``input``, ``entry_start``, ``lfn`` and so on.
    directory : Path
        The unit's own, and the payload's working directory; removed with all that is in it.
    log : Path
        Where the payload's output goes; need not be there.
    """

    payload: Payload
    values: Mapping[str, str]
    directory: Path
    log: Path


class PilotSteps:
    """Steps of a pilot that an experiment may take part in; here they do nothing.

    Made once for each pilot, without arguments. Every step but `prepare_node` and
    `leaving` may be called for several units at once. Steps run in threads, so they may
    block; what they raise is blamed on the node, and a node that fails unit after unit stops.

    Attributes
    ----------
    version : int
        Of the steps that a subclass was written for.
    """

    version: ClassVar[int] = STEPS_VERSION

    def prepare_node(self, scratch: Path) -> None:
        """Get the node ready, or raise: before anything is claimed. The folder is the pilot's."""

    def stage_payload(self, payload: Payload, scratch: Path) -> Mapping[str, str]:
        """Get a payload ready, once for each; returns variables for its environment.

        What the task says itself of a variable counts more.
        """
        return {}

    def before_unit(self, unit: StepUnit) -> None:
        """Look at a unit whose input is there, before its payload runs."""

    def after_unit(self, unit: StepUnit) -> None:
        """Look at a unit whose payload has succeeded, before its outputs are taken."""

    def classify(self, unit: StepUnit, reason: str) -> Blame:
        """Say whose fault it is that a payload failed.

        Returns
        -------
        str
            ``payload``: counted against the range, as is ``input``. ``node``: another node
            gets it, and this one stops where that goes on.
        """
        return "payload"

    def leaving(self) -> None:
        """Clean up: all work is done or given back."""
