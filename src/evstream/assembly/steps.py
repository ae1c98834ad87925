"""The steps of a pilot that an experiment has installed."""

from __future__ import annotations

import importlib
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from evstream.domain.errors import ConfigError
from evstream.pilot.steps import STEPS_VERSION, PilotSteps

GROUP = "evstream.pilot_steps"


def load_steps(named: str) -> PilotSteps | None:
    """Return an experiment's steps; None where none are named.

    Parameters
    ----------
    named : str
        Name of an entry point of the group ``evstream.pilot_steps``, or ``module:Class``.

    Raises
    ------
    ConfigError
        There are none of that name, they cannot be loaded, or are of another version.
    """
    if not named:
        return None
    try:
        steps = _class(named)()
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"the pilot's steps {named} cannot be loaded: {type(error).__name__}: {error}",
            hint="import them by hand with the Python that runs the pilot",
        ) from error
    if not isinstance(steps, PilotSteps):
        raise ConfigError(
            f"{named} is no class of pilot's steps", hint="subclass evstream.pilot.PilotSteps"
        )
    if steps.version != STEPS_VERSION:
        raise ConfigError(
            f"{named} was written for steps of version {steps.version}, here is {STEPS_VERSION}",
            hint="install the release of evstream that it was written for, or a newer one of it",
        )
    return steps


def _class(named: str) -> Any:
    if ":" in named:
        module, _, name = named.partition(":")
        return getattr(importlib.import_module(module), name)
    found: dict[str, EntryPoint] = {one.name: one for one in entry_points(group=GROUP)}
    if named not in found:
        raise ConfigError(
            f"no installed package has pilot's steps called {named!r}",
            hint=f"there are: {', '.join(sorted(found)) or 'none'}; or name module:Class",
        )
    return found[named].load()
