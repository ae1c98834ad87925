"""A network that loses, delays and repeats messages, by a seed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import httpx2

from evstream.ports import Clock


@dataclass(frozen=True, slots=True)
class FaultRates:
    """Chances per message, and the longest delay."""

    lost_request: float = 0.03
    lost_answer: float = 0.03
    repeated: float = 0.03
    delayed: float = 0.1
    delay_s_max: float = 20.0
    latency_s_max: float = 0.02


class Wire:
    """Carries requests to whichever service instance is up at the moment.

    Attributes
    ----------
    delivered : int
        Requests that reached a service.
    rates : FaultRates
        May be changed at any time.
    calm : bool
        No faults from now on.
    after_step : callable or None
        Called after every request that a service has handled.
    """

    def __init__(self, rng: random.Random, clock: Clock, rates: FaultRates) -> None:
        self._rng = rng
        self._clock = clock
        self.rates = rates
        self._inner: httpx2.AsyncBaseTransport | None = None
        self._handling: set[asyncio.Task[httpx2.Response]] = set()
        self.delivered = 0
        self.lost = 0
        self.repeated = 0
        self.calm = False
        self.after_step: Callable[[], Awaitable[None]] | None = None

    def connect(self, transport: httpx2.AsyncBaseTransport) -> None:
        """Let requests through to a service instance."""
        self._inner = transport

    async def cut(self) -> None:
        """Kill the instance: whatever it was doing stops where it stands."""
        self._inner = None
        handling, self._handling = self._handling, set()
        for task in handling:
            task.cancel()
        await asyncio.gather(*handling, return_exceptions=True)

    async def carry(self, request: httpx2.Request) -> httpx2.Response:
        """Deliver a request, or fail in one of the ways in which networks do."""
        rates = FaultRates(0, 0, 0, 0, 0, 0) if self.calm else self.rates
        rng = self._rng
        await self._clock.sleep(rng.random() * rates.latency_s_max)
        if rng.random() < rates.delayed:
            await self._clock.sleep(rng.random() * rates.delay_s_max)
        if rng.random() < rates.lost_request:
            self.lost += 1
            raise httpx2.ConnectError("simulated: the request was lost", request=request)
        if rng.random() < rates.repeated:
            self.repeated += 1
            await self._deliver(request)
        response = await self._deliver(request)
        await self._clock.sleep(rng.random() * rates.latency_s_max)
        if rng.random() < rates.lost_answer:
            self.lost += 1
            raise httpx2.ReadError("simulated: the answer was lost", request=request)
        return response

    async def _deliver(self, request: httpx2.Request) -> httpx2.Response:
        if self._inner is None:
            raise httpx2.ConnectError("simulated: the service is down", request=request)
        handling = asyncio.get_running_loop().create_task(self._handle(self._inner, request))
        self._handling.add(handling)
        handling.add_done_callback(self._handling.discard)
        self.delivered += 1
        # Waited for, not awaited: the service goes on when its client is gone.
        await asyncio.wait([handling])
        if self.after_step is not None and self._inner is not None:
            await self.after_step()
        if handling.cancelled():
            raise httpx2.ReadError("simulated: the service died", request=request)
        return handling.result()

    @staticmethod
    async def _handle(inner: httpx2.AsyncBaseTransport, request: httpx2.Request) -> httpx2.Response:
        response = await inner.handle_async_request(request)
        content = await response.aread()
        return httpx2.Response(response.status_code, headers=response.headers, content=content)


class Carrier(Protocol):
    """Whatever requests go by."""

    async def carry(self, request: httpx2.Request) -> httpx2.Response:
        """Deliver a request, or fail in one of the ways in which networks do."""
        ...


class FaultyTransport(httpx2.AsyncBaseTransport):
    """One client's end of a wire; `die` cuts it off as SIGKILL would."""

    def __init__(self, wire: Carrier) -> None:
        self._wire = wire
        self._dead = False

    def die(self) -> None:
        """Nothing that this client sends from now on goes anywhere."""
        self._dead = True

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Carry a request, its body read first so that it can arrive twice."""
        content = await request.aread()
        again = httpx2.Request(
            request.method, request.url, headers=request.headers, content=content
        )
        if self._dead:
            raise asyncio.CancelledError
        response = await self._wire.carry(again)
        if self._dead:
            raise asyncio.CancelledError
        return response
