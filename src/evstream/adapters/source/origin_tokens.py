"""Tokens for origins: to each host its own, over TLS alone, read again when its file changes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from evstream.client.bearer import TokenFile
from evstream.domain.errors import ConfigError

_PORTS = {"https": 443, "roots": 1094, "xroots": 1094}
"""Schemes that speak nothing but TLS, with their ports; a token is sent over no other."""


class OriginTokens:
    """Knows which token to show to which host.

    Parameters
    ----------
    files : mapping
        Paths of files of one token each, by ``host`` or ``host:port`` in small letters.
    """

    def __init__(self, files: Mapping[str, Path] | None = None) -> None:
        self._files = {name: TokenFile(path) for name, path in (files or {}).items()}
        self._paths = dict(files or {})

    @classmethod
    def parse(cls, text: str) -> OriginTokens:
        """Read the setting: ``HOST=FILE HOST:PORT=FILE``.

        Raises
        ------
        ConfigError
            It is written otherwise.
        """
        files: dict[str, Path] = {}
        for word in text.split():
            host, _, path = word.partition("=")
            name = _name_of(host)
            if not name or not path.startswith("/") or name in files:
                raise ConfigError(
                    f"origin_tokens: {word!r} names no host and file",
                    hint="write HOST=/PATH, or HOST:PORT=/PATH, each host once",
                )
            files[name] = Path(path)
        return cls(files)

    def __bool__(self) -> bool:
        return bool(self._files)

    def _named(self, url: str) -> str | None:
        """Return under which name a URL's host has a token; None: it has none."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            return None
        if parts.scheme not in _PORTS or not host:
            return None
        inner = f"[{host}]" if ":" in host else host
        names = (f"{inner}:{port or _PORTS[parts.scheme]}", inner)
        return next((name for name in names if name in self._files), None)

    def of(self, url: str) -> str:
        """Return the token to show where a URL leads; empty for none.

        Raises
        ------
        ConfigError
            The file holds no token.
        """
        name = self._named(url)
        return "" if name is None else self._files[name]()

    def with_token(self, url: str) -> str:
        """Return a URL of XRootD's that shows the token, at the login and with the request.

        A connection stays what it was at its login: the request's own token is what counts then.
        """
        if not (token := self.of(url)):
            return url
        return _with(self.with_login(url), f"authz=Bearer%20{quote(token, '')}")

    def with_login(self, url: str) -> str:
        """Return a URL of XRootD's that shows the token at the login alone."""
        name = self._named(url)
        return url if name is None else _with(url, f"xrd.ztn={self._paths[name]}")

    async def show(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """Show tokens as a middleware of aiohttp's: it sees each request, also after redirects."""
        if token := self.of(str(request.url)):
            request.headers["Authorization"] = f"Bearer {token}"
        return await handler(request)


def _with(url: str, parameter: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}{parameter}"


def _name_of(host: str) -> str:
    """Return a host as URLs are compared with it; empty where it is none."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return ""
    plain = parts.netloc == host and parts.hostname and not set("@/?#") & set(host)
    return host.lower() if plain else ""
