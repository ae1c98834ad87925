"""Where a service listens, and what opens its door.

A running embedded service writes ``address.json`` into its data directory, readable
by its owner alone.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import httpx2
import msgspec
import psutil

from evstream.domain.errors import ConfigError, NotFoundError, RequestError

ADDRESS_FILE = "address.json"
_IN_PROCESS = "http://evstream.local"


@dataclass(frozen=True, slots=True)
class Address:
    """A service's URL and token.

    Attributes
    ----------
    url : str
        ``http://HOST:PORT``, ``https://…``, or ``unix:/PATH/OF/SOCKET``.
    token : str
        Bearer token; empty where the door is a socket's permissions.
    """

    url: str
    token: str = ""
    pid: int = 0

    @property
    def base_url(self) -> str:
        """The URL that requests are built on."""
        return _IN_PROCESS if self.url.startswith("unix:") else self.url

    def transport(self) -> httpx2.AsyncBaseTransport:
        """Return what carries requests to the address.

        Raises
        ------
        RequestError
            The URL is of no kind that we know.
        """
        # Slots, not requests, bound the connections: a pilot keeps few and reuses them.
        limits = httpx2.Limits(max_connections=64, max_keepalive_connections=32)
        if self.url.startswith("unix:"):
            path = self.url.removeprefix("unix:")
            return httpx2.AsyncHTTPTransport(uds=path, limits=limits, trust_env=False)
        if self.url.startswith(("http://", "https://")):
            return httpx2.AsyncHTTPTransport(limits=limits)
        raise RequestError(
            f"{self.url!r} is no address of a service",
            hint="give http://HOST:PORT, https://HOST or unix:/PATH",
        )

    def write(self, data_dir: Path) -> None:
        """Leave the address in a data directory, for its owner's eyes only."""
        partial = data_dir / f".{ADDRESS_FILE}.{os.getpid()}"
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(self))
        partial.replace(data_dir / ADDRESS_FILE)

    @classmethod
    def read(cls, data_dir: Path) -> Address:
        """Find the service that runs on a data directory.

        Raises
        ------
        NotFoundError
            None has left its address there.
        ConfigError
            The file may not be read, or is none of ours.
        """
        path = data_dir / ADDRESS_FILE
        nobody = NotFoundError(
            f"no service runs on {data_dir}",
            hint=f"start one with 'evstream serve --data {data_dir}' or give --url",
        )
        try:
            found = msgspec.json.decode(path.read_bytes(), type=cls)
        except FileNotFoundError:
            raise nobody from None
        except (OSError, msgspec.DecodeError) as error:
            raise ConfigError(
                f"cannot read {path}: {error}",
                hint="ask its owner, or give --url and --token",
            ) from error
        if not psutil.pid_exists(found.pid):
            # Killed; whoever has its port now must not be shown the token.
            raise nobody
        return found
