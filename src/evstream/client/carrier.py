"""HTTP/1.1 as clients speak it: aiohttp under httpx2's face, through a proxy where one is set."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib import request as environment

import httpx2

from evstream.domain.names import text_without_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator

    import aiohttp

CONNECTIONS_MAX = 64
"""Slots, not requests, bound the connections: a pilot keeps few and reuses them."""
IDLE_S_MAX = 60.0
"""A connection that was not used for so long is closed: servers and firewalls forget it as well."""
UNHEARD_S_MAX = 60.0
"""A connection of which what was sent is not acknowledged for so long is given up."""
READ_BYTES = 1 << 20
MADE = "connection.made"
"""What a trace is told of each new connection, with the seconds of a round trip."""

_NOT_OURS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class Carrier(httpx2.AsyncBaseTransport):
    """Carries requests over TCP, TLS or a Unix socket, on connections that are kept.

    aiohttp parses in C: a request takes a third of the CPU that httpx2's own transport takes, a
    body a quarter.

    Parameters
    ----------
    tls : ssl.SSLContext, optional
        For ``https``; by default that of the system.
    uds : str, optional
        Path of a Unix socket to go through, whatever a URL says.
    """

    def __init__(self, tls: ssl.SSLContext | None = None, uds: str = "") -> None:
        self._tls = tls
        self._uds = uds
        self._session: aiohttp.ClientSession | None = None
        # By scheme and host. Pilots ask few hosts, and the environment's words are many.
        self._proxies: dict[tuple[str, str], str | None] = {}

    def _proxy(self, url: httpx2.URL) -> str | None:
        place = url.scheme, url.host
        if place not in self._proxies:
            self._proxies[place] = None if self._uds else proxy_for(url)
        return self._proxies[place]

    def _opened(self) -> aiohttp.ClientSession:
        """Return the session; it is made on the loop that uses it."""
        if self._session is not None:
            return self._session
        # Not before it is needed: many commands end without a request.
        import aiohttp

        connector: aiohttp.BaseConnector
        if self._uds:
            connector = aiohttp.UnixConnector(self._uds, limit=CONNECTIONS_MAX)
        else:
            connector = aiohttp.TCPConnector(
                ssl=self._tls or True,
                limit=CONNECTIONS_MAX,
                keepalive_timeout=IDLE_S_MAX,
                socket_factory=_heard_socket,
            )
        traces = aiohttp.TraceConfig()
        traces.on_connection_create_start.append(_connecting)
        traces.on_connection_create_end.append(_connected)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            read_bufsize=READ_BYTES,
            skip_auto_headers=_NOT_OURS,
            trace_configs=[traces],
        )
        return self._session

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request and return the answer, of which the body is yet to come."""
        import aiohttp
        from yarl import URL

        session = self._opened()
        limits = request.extensions.get("timeout", {})
        url = str(request.url)
        with _translated(request):
            response = await session.request(
                request.method,
                # As it is: what is signed must not be spelled otherwise.
                URL(url, encoded=True),
                data=_body(request),
                headers=[
                    (name.decode("latin-1"), value.decode("latin-1"))
                    for name, value in request.headers.raw
                    if name.lower() != b"transfer-encoding"
                ],
                allow_redirects=False,
                proxy=self._proxy(request.url),
                timeout=aiohttp.ClientTimeout(
                    total=None,
                    connect=limits.get("pool"),
                    sock_connect=limits.get("connect"),
                    sock_read=limits.get("read"),
                ),
                trace_request_ctx=request.extensions.get("trace"),
            )
        return httpx2.Response(
            response.status,
            headers=list(response.raw_headers),
            stream=_Body(response, request),
            extensions={"reason_phrase": (response.reason or "").encode("latin-1", "replace")},
        )

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


class _Body(httpx2.AsyncByteStream):
    """The body of an answer; its connection is used again if it was read to the end."""

    def __init__(self, response: aiohttp.ClientResponse, request: httpx2.Request) -> None:
        self._response = response
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _translated(self._request):
            async for piece in self._response.content.iter_any():
                yield piece

    async def aclose(self) -> None:
        self._response.release()


def _body(request: httpx2.Request) -> Any:
    try:
        return request.content or None
    except httpx2.RequestNotRead:
        return request.stream


def proxy_for(url: httpx2.URL) -> str | None:
    """Return the proxy that the environment sets for a URL, if there is one.

    ``HTTPS_PROXY``, ``HTTP_PROXY`` and ``ALL_PROXY`` are looked at, in capitals or not, and
    ``NO_PROXY``. This machine itself is never reached by a proxy.
    """
    host = url.host
    proxies = environment.getproxies_environment()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy or _is_here(host) or _is_excepted(host, proxies):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _is_excepted(host: str, proxies: dict[str, str]) -> bool:
    return bool(environment.proxy_bypass_environment(host, proxies))  # type: ignore[attr-defined]


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _heard_socket(address: Any) -> socket.socket:
    """Return a socket that breaks where the other end is not heard of while we send.

    aiohttp waits for answers with a limit, but for the body to be sent with none; the system
    alone would try for a quarter of an hour.
    """
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        unheard_ms = int(UNHEARD_S_MAX * 1000)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, unheard_ms)
    return made


@contextmanager
def _translated(request: httpx2.Request) -> Iterator[None]:
    """Turn errors into httpx2's."""
    import aiohttp

    try:
        yield
    except (aiohttp.ConnectionTimeoutError, aiohttp.ServerTimeoutError) as error:
        kind = httpx2.ReadTimeout
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            kind = httpx2.ConnectTimeout  # type: ignore[assignment]
        raise kind(_said(error), request=request) from error
    except (aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError) as error:
        raise httpx2.ProxyError(f"the proxy: {_said(error)}", request=request) from error
    except aiohttp.ClientConnectorError as error:
        raise httpx2.ConnectError(_said(error), request=request) from error
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError, OSError) as error:
        raise httpx2.ReadError(_said(error), request=request) from error
    except (TimeoutError, aiohttp.ClientError, ValueError) as error:
        raise httpx2.RemoteProtocolError(_said(error), request=request) from error


def _said(error: Exception) -> str:
    # It may name the proxy with its password, or a signed URL; this goes to logs and the ledger.
    return text_without_secrets(str(error))


async def _connecting(session: aiohttp.ClientSession, told: Any, params: object) -> None:
    told.begun = asyncio.get_running_loop().time()


async def _connected(session: aiohttp.ClientSession, told: Any, params: object) -> None:
    if (trace := told.trace_request_ctx) is not None:
        await trace(MADE, {"seconds": asyncio.get_running_loop().time() - told.begun})
