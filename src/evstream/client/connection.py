"""One service's HTTP, with patience: what may be repeated is, until a deadline."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

import httpx2

from evstream.client.carrier import MADE, Carrier
from evstream.client.link_meter import LinkMeter, Trace
from evstream.domain.errors import EvstreamError, TransientError
from evstream.ports import Clock, Ids
from evstream.wire.messages import Message, decode, encode
from evstream.wire.pages import PAGE_MAX
from evstream.wire.problems import from_problem

T = TypeVar("T")

RETRY_S_FIRST = 0.1
RETRY_S_LONGEST = 10.0
CONNECT_S_MAX = 10.0
REDIRECTED = 307
PROGRESS_S_MAX = 60.0
"""A connection that brings nothing for so long is given up; there is no total limit."""


class Connection:
    """Requests to one service, repeated while it is away.

    Every POST carries an Idempotency-Key that stays the same when it is repeated, so
    repeating is safe whether or not the first one arrived.

    Parameters
    ----------
    token : str or callable
        What is shown; a callable is asked before each request, so that tokens may be renewed.
    patience_s : float
        How long to go on trying before a `TransientError` is the answer.
    elsewhere : callable, optional
        Makes what carries requests to edges, on first use. These are never shown the token.

    Attributes
    ----------
    meter : LinkMeter
        What is seen of the ways to edges.
    clock : Clock
        Its own.
    heard_at : float
        When the head of an answer last came, from anywhere; by the clock, monotonic.
    """

    def __init__(
        self,
        transport: httpx2.AsyncBaseTransport,
        clock: Clock,
        ids: Ids,
        *,
        base_url: str = "http://evstream.local",
        token: str | Callable[[], str] = "",
        patience_s: float = 5.0,
        elsewhere: Callable[[], httpx2.AsyncBaseTransport] = Carrier,
    ) -> None:
        self._timeout = httpx2.Timeout(PROGRESS_S_MAX, connect=CONNECT_S_MAX)
        self._hooks: Any = {"response": [self._hear]}
        self.heard_at = -math.inf
        self._http = httpx2.AsyncClient(
            transport=transport,
            base_url=base_url,
            auth=_Bearer(token if callable(token) else lambda: token),
            timeout=self._timeout,
            event_hooks=self._hooks,
        )
        self._transport_elsewhere = elsewhere
        self._elsewhere: httpx2.AsyncClient | None = None
        self.meter = LinkMeter(clock.monotonic)
        self.clock = clock
        self._ids = ids
        self._patience_s = patience_s

    async def close(self) -> None:
        """Close its sockets."""
        await self._http.aclose()
        if self._elsewhere is not None:
            await self._elsewhere.aclose()

    def _client_elsewhere(self) -> httpx2.AsyncClient:
        if self._elsewhere is None:
            self._elsewhere = httpx2.AsyncClient(
                transport=self._transport_elsewhere(),
                timeout=self._timeout,
                event_hooks=self._hooks,
            )
        return self._elsewhere

    async def _hear(self, response: httpx2.Response) -> None:
        self.heard_at = self.clock.monotonic()

    async def call(
        self,
        method: str,
        path: str,
        answer: type[T],
        message: object = None,
        *,
        key: str = "",
        answer_s_max: float = PROGRESS_S_MAX,
    ) -> T:
        """Send a message and read the answer.

        Parameters
        ----------
        key : str
            Idempotency-Key; a new one if it is empty.
        answer_s_max : float
            How long the service may think before it begins to answer.

        Raises
        ------
        EvstreamError
            What the service said, as the class that its code names; `TransientError`
            if it could not be reached while patience lasted.
        """
        headers = {"Content-Type": "application/json"}
        if method == "POST":
            headers["Idempotency-Key"] = key or self._ids.new("req")
        content = None if message is None else encode(message)
        async for attempt in self._attempts():
            with attempt:
                response = await self._http.request(
                    method,
                    path,
                    content=content,
                    headers=headers,
                    timeout=httpx2.Timeout(answer_s_max, connect=CONNECT_S_MAX),
                )
                _raise_for(response.status_code, response.content)
                return decode(response.content, answer)
        raise AssertionError("attempts end by returning or raising")

    async def content(self, path: str) -> bytes:
        """Return what there is under a path, as it is.

        Raises
        ------
        EvstreamError
            As for `call`.
        """
        async for attempt in self._attempts():
            with attempt:
                response = await self._http.get(path)
                _raise_for(response.status_code, response.content)
                return response.content
        raise AssertionError("attempts end by returning or raising")

    async def pages(self, path: str, kind: type[T], **query: object) -> list[T]:
        """Return a list that comes in pages, as a whole."""
        found: list[T] = []
        after: int | str | None = None
        while True:
            asked = {**query, "limit": PAGE_MAX} | ({} if after is None else {"after": after})
            page = await self.call("GET", f"{path}?{urlencode(asked)}", _Page[kind])  # type: ignore[valid-type]
            found += page.items
            if page.next is None:
                return found
            after = page.next

    async def put(
        self, path: str, content: Callable[[], AsyncIterator[bytes] | bytes], answer: type[T]
    ) -> T:
        """Send a body that can be produced again, and read the answer."""
        async for attempt in self._attempts():
            with attempt:
                response = await self._http.put(path, content=content())
                _raise_for(response.status_code, response.content)
                return decode(response.content, answer)
        raise AssertionError("attempts end by returning or raising")

    @asynccontextmanager
    async def stream(
        self,
        path: str,
        headers: dict[str, str] | None = None,
        connect_s_max: float = CONNECT_S_MAX,
        connected: Callable[[float], None] = lambda seconds: None,
    ) -> AsyncIterator[httpx2.Response]:
        """Open a body for reading, once: who reads knows from which byte to go on.

        Parameters
        ----------
        path : str
            On the service, or a whole URL elsewhere. If the service sends us elsewhere, we go.
        connect_s_max : float
            How long a new connection may take.
        connected : callable
            Told how long one took, where one was made.

        Raises
        ------
        TransientError
            The connection broke, now or while it was read.
        """
        limits = httpx2.Timeout(PROGRESS_S_MAX, connect=connect_s_max)

        def tracing(trace: Trace) -> dict[str, Any]:
            async def told(event: str, what: dict[str, Any]) -> None:
                if event == MADE:
                    connected(what["seconds"])
                await trace(event, what)

            return {"trace": told}

        try:
            if path.startswith("/"):
                async with self._http.stream(
                    "GET", path, headers=headers, timeout=limits, extensions=tracing(_nothing)
                ) as response:
                    if response.status_code != REDIRECTED:
                        if response.status_code >= 400:
                            _raise_for(response.status_code, await response.aread())
                        yield response
                        return
                    path = response.headers["Location"]
            elsewhere = self._client_elsewhere()

            def opening(trace: Trace) -> Any:
                told = tracing(trace)
                return elsewhere.stream(
                    "GET", path, headers=headers, timeout=limits, extensions=told
                )

            async with self.meter.measured(opening, path) as response:
                if response.status_code >= 300:
                    _raise_for(response.status_code, await response.aread())
                yield response
        except httpx2.TransportError as error:
            raise _unreachable(error) from error

    def is_of_service(self, response: httpx2.Response) -> bool:
        """Whether the service itself has answered, and nobody that it sends us to."""
        return response.url.netloc == self._http.base_url.netloc

    async def wait_before_retry(
        self,
        failures: int,
        error: EvstreamError | None = None,
        longest_s: float = RETRY_S_LONGEST,
    ) -> None:
        """Wait longer after each failure, with jitter, or as long as the service asked."""
        delay = min(RETRY_S_FIRST * 2.0**failures, longest_s)
        delay *= 0.5 + self._ids.jitter()
        asked = error.fields.get("retry_after_s", 0.0) if error is not None else 0.0
        await self.clock.sleep(max(delay, float(str(asked))))

    async def _attempts(self) -> AsyncIterator[_Attempt]:
        deadline = self.clock.monotonic() + self._patience_s
        failures = 0
        while True:
            attempt = _Attempt(last=self.clock.monotonic() >= deadline)
            yield attempt
            await self.wait_before_retry(failures, attempt.error)
            failures += 1


class _Bearer(httpx2.Auth):
    """Shows the token of the moment."""

    def __init__(self, token: Callable[[], str]) -> None:
        self._token = token

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response]:
        if token := self._token():
            request.headers["Authorization"] = f"Bearer {token}"
        yield request


class _Page(Message, Generic[T], frozen=True):
    """A page of any list."""

    items: list[T]
    next: int | str | None = None


class _Attempt:
    """Swallows a transient error, unless it was the last chance."""

    def __init__(self, *, last: bool) -> None:
        self._last = last
        self.error: EvstreamError | None = None

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, httpx2.TransportError):
            error_here = _unreachable(error)
            if self._last:
                raise error_here from error
            self.error = error_here
            return True
        if isinstance(error, TransientError) and not self._last:
            self.error = error
            return True
        return False


def _unreachable(error: httpx2.TransportError) -> TransientError:
    return TransientError(
        f"the service cannot be reached: {str(error) or type(error).__name__}",
        hint="check that it runs and that the address is right",
    )


async def _nothing(event: str, what: dict[str, Any]) -> None:
    """Take no note."""


def _raise_for(status: int, body: bytes) -> None:
    if status >= 300:
        raise from_problem(body, status)
