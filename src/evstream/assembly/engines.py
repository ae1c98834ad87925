"""Engines and the keepers of their pilots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evstream.adapters.clock import SystemClock
from evstream.adapters.engines.dask import DaskEngine, DaskPlace
from evstream.adapters.engines.local import LocalEngine
from evstream.adapters.engines.slurm import SlurmEngine
from evstream.adapters.engines.template import TemplateEngine
from evstream.adapters.ids import RandomIds
from evstream.client import Service
from evstream.daemons.keep_pilots import (
    Ended,
    PilotKeeper,
    give_up_on,
    none_lasts,
)
from evstream.domain.replacing import Replacing
from evstream.ports import Engine, PilotOrder

__all__ = [
    "DaskPlace",
    "make_dask_engine",
    "make_job_keeper",
    "make_keeper",
    "make_local_engine",
    "make_slurm_engine",
    "make_template_engine",
]

DEATHS_MAX = 5
"""So many workers in a row that died, not over a unit of work: something else is wrong.

One that dies over a range is the ledger's to count: such a range is set aside in time.
"""


def make_local_engine(folder: Path, group: str) -> Engine:
    """Return the engine that starts processes of this machine."""
    return LocalEngine(folder, group)


def make_slurm_engine(folder: Path, group: str, options: Sequence[str]) -> Engine:
    """Return the engine that hands pilots to Slurm."""
    return SlurmEngine(folder, group, options)


def make_template_engine(folder: Path, group: str, template: str, options: Sequence[str]) -> Engine:
    """Return the engine that hands pilots to the batch system of a template."""
    return TemplateEngine(folder, group, template, options)


def make_dask_engine(folder: Path, group: str, place: DaskPlace) -> Engine:
    """Return the engine that hands pilots to a Dask cluster."""
    return DaskEngine(folder, group, place)


def make_keeper(service: Service, engine: Engine, order: PilotOrder) -> PilotKeeper:
    """Return what keeps pilots for a long time: the next one waits where one ended early."""
    replacing = Replacing()
    on_end = give_up_on(replacing)
    return PilotKeeper(service, engine, SystemClock(), RandomIds(), order, replacing, on_end)


def make_job_keeper(service: Service, engine: Engine, order: PilotOrder) -> PilotKeeper:
    """Return what keeps the workers of one job on this machine: each is replaced at once."""
    deaths = 0

    def count(ended: Ended) -> None:
        nonlocal deaths
        deaths = 0 if ended.state.ok or ended.over_work else deaths + 1
        if deaths >= DEATHS_MAX:
            raise none_lasts(deaths, ended)

    return PilotKeeper(service, engine, SystemClock(), RandomIds(), order, on_end=count)
