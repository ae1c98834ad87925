"""One shape for all loops: do it, measure it, survive its errors, wait, again."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from evstream.domain.errors import EvstreamError
from evstream.ports import Clock, Meter

RETRY_S = 1.0
BATCH = 1_000
"""A transaction's worth: others get their turn between two."""

log = logging.getLogger(__name__)

Work = Callable[[], Awaitable[int]]
"""A round of a loop; returns how many things it removed, took back or looked at."""


def _log_error(loop: str, what: str, error: Exception) -> None:
    """Write down what failed: a line if it is one of ours, else with where it comes from."""
    ids = {"loop": loop}
    if isinstance(error, EvstreamError):
        log.warning("%s: %s", what, error, extra=ids)
    else:
        log.error("%s failed unexpectedly", what, exc_info=error, extra=ids)


async def run_once(name: str, work: Work, clock: Clock, meter: Meter, what: str = "") -> bool:
    """Do a round of a loop; after an error, which is logged, wait a little and return False.

    Parameters
    ----------
    what : str
        What it is about, for the log.
    """
    began = clock.monotonic()
    try:
        items = await work()
    except Exception as error:  # noqa: BLE001 - a service without its loops is dead unnoticed
        _log_error(name, f"{name}: {what}" if what else name, error)
        meter.failed(name, clock.monotonic() - began)
        await clock.sleep(RETRY_S)
        return False
    meter.ran(name, clock.monotonic() - began, items, clock.now())
    return True


async def in_batches(do_some: Callable[[int], Awaitable[int]]) -> int:
    """Do something so many at a time until fewer are left; return how many in all."""
    total = count = await do_some(BATCH)
    while count == BATCH:
        count = await do_some(BATCH)
        total += count
    return total


async def repeat(name: str, work: Work, clock: Clock, meter: Meter, every_s: float) -> None:
    """Do some work for ever; an error of one round is logged and the next one comes."""
    while True:
        await run_once(name, work, clock, meter)
        await clock.sleep(every_s)
