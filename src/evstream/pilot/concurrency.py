"""Waiting for one of two, working on many with a bound: asyncio, with the clock a port.

The event loop's own time-outs are not used anywhere in the pilot: under a simulator,
time is the clock's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from evstream.domain.errors import (
    ConfigError,
    ConflictError,
    DataError,
    EvstreamError,
    PayloadError,
    RequestError,
    first_error,
)
from evstream.ports import Clock, Ids

T = TypeVar("T")

RETRY_S = 1.0
"""Pause between rounds; within a round the connection has its own, shorter ones."""

DEFINITE = (RequestError, ConflictError, DataError, ConfigError, PayloadError)
"""Errors that the same request would meet again. Others may pass."""


async def either(work: Coroutine[Any, Any, object], other: Coroutine[Any, Any, object]) -> bool:
    """Run both until one ends and cancel the other; return whether ``work`` ended.

    What ``work`` raises is raised.
    """
    tasks = [asyncio.ensure_future(work), asyncio.ensure_future(other)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            return False
        tasks[0].result()
        return True
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def beside(other: Coroutine[Any, Any, None], *, wanted: bool = True) -> AsyncIterator[None]:
    """Run something beside the context's body, and cancel it when that ends."""
    if not wanted:
        other.close()
        yield
        return
    task = asyncio.ensure_future(other)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def in_time(clock: Clock, seconds: float, work: Coroutine[Any, Any, object]) -> bool:
    """Run ``work``, cancel it when the time is over; return whether it ended."""
    return await either(work, clock.sleep(max(seconds, 0.0)))


async def patiently(
    clock: Clock,
    ids: Ids,
    seconds: float,
    attempt: Callable[[], Awaitable[T]],
    passing: tuple[type[EvstreamError], ...] = (),
) -> T:
    """Repeat an attempt while its errors may pass and patience lasts.

    Parameters
    ----------
    passing : tuple of error classes
        Errors that may pass here, definite as they are elsewhere.

    Raises
    ------
    EvstreamError
        The first definite error, or the last other one.
    """
    deadline = clock.monotonic() + seconds
    while True:
        try:
            return await attempt()
        except EvstreamError as error:
            definite = isinstance(error, DEFINITE) and not isinstance(error, passing)
            if definite or clock.monotonic() >= deadline:
                raise
            asked = float(str(error.fields.get("retry_after_s", 0.0)))
        await clock.sleep(max(RETRY_S * (0.5 + ids.jitter()), asked))


async def for_each(
    items: Iterable[T], at_once: int, do: Callable[[T], Coroutine[Any, Any, None]]
) -> None:
    """Do something for every item, begun in order; the first error stops the rest."""
    work = list(items)
    if len(work) == 1:
        # As most units have one input: no group of tasks for one.
        await do(work[0])
        return
    queue = iter(work)

    async def take() -> None:
        for item in queue:
            await do(item)

    with first_error():
        async with asyncio.TaskGroup() as group:
            for _ in range(min(at_once, len(work))):
                group.create_task(take())
