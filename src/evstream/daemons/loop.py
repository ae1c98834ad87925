"""One shape for all loops: do it, survive its errors, wait, again."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from evstream.domain.errors import EvstreamError
from evstream.ports import Clock

RETRY_S = 1.0

log = logging.getLogger(__name__)


def log_error(what: str, error: Exception) -> None:
    """Write down what failed: a line if it is one of ours, else with where it comes from."""
    if isinstance(error, EvstreamError):
        log.warning("%s: %s", what, error)
    else:
        log.error("%s failed unexpectedly", what, exc_info=error)


async def repeat(
    name: str, work: Callable[[], Awaitable[object]], clock: Clock, every_s: float
) -> None:
    """Do some work for ever; an error of one round is logged and the next one comes."""
    while True:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - a service without its loops is dead unnoticed
            log_error(name, error)
            await clock.sleep(RETRY_S)
        await clock.sleep(every_s)
