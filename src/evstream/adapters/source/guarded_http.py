"""HTTP connections to sources: whom they trust, who they are, and where they may lead.

Addresses are looked at when a connection is made, after names were resolved, so neither a
redirect nor a name whose address changes leads elsewhere.
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from evstream.adapters.source.origin_tokens import OriginTokens
from evstream.client.tls import client_context
from evstream.domain.errors import AccessError, ConfigError
from evstream.domain.source_rules import SourceRules

NO_TOKENS = OriginTokens()


def check_host(rules: SourceRules, host: str) -> None:
    """Refuse a host that leads where nothing may be read; one that is unknown is let pass.

    Raises
    ------
    AccessError
    """
    if not host or rules.networks is None:
        return
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        # Whoever opens it will say so.
        return
    for *_, place in found:
        if not rules.allows(str(place[0])):
            raise AccessError(
                f"{host} is at {place[0]}, which is not opened for others",
                hint="have source_networks name its network, if it is meant to be read",
            )


def origin_context(ca_file: str, cert_file: str) -> ssl.SSLContext:
    """Return the TLS context of connections to origins.

    Parameters
    ----------
    cert_file : str
        Client certificate or X.509 proxy with its key, in one PEM file; empty: none.

    Raises
    ------
    ConfigError
    """
    if not cert_file:
        return client_context(ca_file)
    # A context of its own: this certificate is shown to origins alone.
    context = client_context.__wrapped__(ca_file)
    try:
        context.load_cert_chain(Path(cert_file))
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"the client certificate {cert_file} cannot be used: {error}",
            hint="give a PEM file with certificate and key (origin_cert_file)",
        ) from error
    return context


def client_maker(
    rules: SourceRules, ca_file: str = "", cert_file: str = "", tokens: OriginTokens = NO_TOKENS
) -> Callable[..., Awaitable[Any]]:
    """Return what makes fsspec's HTTP sessions."""

    def connect(info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, place = info
        if not rules.allows(str(place[0])):
            raise PermissionError(
                errno.EACCES, f"{place[0]} is not opened for others (source_networks)"
            )
        return socket.socket(family, kind, protocol)

    async def get_client(**options: Any) -> Any:
        import aiohttp

        connector = aiohttp.TCPConnector(
            socket_factory=connect, ssl=origin_context(ca_file, cert_file)
        )
        shows = (tokens.show,) if tokens else ()
        return aiohttp.ClientSession(connector=connector, middlewares=shows, **options)

    return get_client
