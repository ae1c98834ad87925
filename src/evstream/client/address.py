"""Where a service listens, and what opens its door.

A running embedded service writes ``address.json`` into its data directory, readable
by its owner alone.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import msgspec

from evstream.client.bearer import bearer
from evstream.client.carrier import Carrier
from evstream.client.tls import client_context
from evstream.domain.errors import ConfigError, NotFoundError, RequestError

ADDRESS_FILE = "address.json"
FIND_EVERY_S = 0.2
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
    ca_file : str
        Whom to trust beside the system's authorities; see `client_context`.
    token_file : str
        Where the token is, if it is not given; looked at before each request.
    """

    url: str
    token: str = ""
    ca_file: str = ""
    token_file: str = ""

    def bearer(self) -> Callable[[], str]:
        """Return what gives the token for a request."""
        return bearer(self.token, self.token_file)

    @property
    def base_url(self) -> str:
        """The URL that requests are built on."""
        return _IN_PROCESS if self.url.startswith("unix:") else self.url

    def elsewhere(self) -> httpx2.AsyncBaseTransport:
        """Return what carries requests to whoever the service names, edges above all."""
        return Carrier(self._tls())

    def _tls(self) -> ssl.SSLContext | None:
        # The system's authorities alone are what a carrier has by itself; loading takes its time.
        return client_context(self.ca_file) if self.ca_file else None

    def transport(self) -> httpx2.AsyncBaseTransport:
        """Return what carries requests to the address.

        Raises
        ------
        RequestError
            The URL is of no kind that we know.
        ConfigError
            The authorities cannot be read.
        """
        if self.url.startswith("unix:"):
            return Carrier(uds=self.url.removeprefix("unix:"))
        if self.url.startswith(("http://", "https://")):
            # Plain HTTP never looks at authorities.
            return Carrier(self._tls() if self.url.startswith("https:") else None)
        raise RequestError(
            f"{self.url!r} is no address of a service",
            hint="give http://HOST:PORT, https://HOST or unix:/PATH",
        )

    @contextmanager
    def published(self, data_dir: Path) -> Iterator[None]:
        """Leave the address in a data directory while the context lasts.

        For its owner's eyes only, and locked: the lock dies with this process, however
        that dies, and with the lock all trust in the address.
        """
        path, partial = data_dir / ADDRESS_FILE, data_dir / f".{ADDRESS_FILE}.{os.getpid()}"
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(self))
            file.flush()
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            partial.replace(path)
            try:
                yield
            finally:
                path.unlink(missing_ok=True)

    @classmethod
    def read(cls, data_dir: Path) -> Address:
        """Find the service that runs on a data directory.

        Raises
        ------
        NotFoundError
            None runs there: it has left no address, or has died without taking it away.
        ConfigError
            The file may not be read, or is none of ours.
        """
        path = data_dir / ADDRESS_FILE
        nobody = NotFoundError(
            f"no service runs on {data_dir}",
            hint=f"start one with 'evstream serve --data {data_dir}' or give --url",
        )
        try:
            with path.open("rb") as file:
                found = msgspec.json.decode(file.read(), type=cls)
                alive = _is_locked(file.fileno())
        except FileNotFoundError:
            raise nobody from None
        except (OSError, msgspec.DecodeError) as error:
            raise ConfigError(
                f"cannot read {path}: {error}",
                hint="ask its owner, or give --url and --token",
            ) from error
        if not alive:
            # Killed; whoever has its port now must not be shown the token.
            raise nobody
        return found

    @classmethod
    async def find(cls, data_dir: Path, patience_s: float) -> Address:
        """Find the service that runs on a data directory, or wait for one that was killed.

        Whoever keeps it running starts it again, so it is waited for as one that does not
        answer. A service that ended in order took its address away: nothing is waited for.

        Raises
        ------
        NotFoundError
            None runs there, or not before patience was over.
        ConfigError
            As `read`.
        """
        deadline = time.monotonic() + patience_s
        while True:
            try:
                return cls.read(data_dir)
            except NotFoundError:
                killed = (data_dir / ADDRESS_FILE).exists()
                if not killed or time.monotonic() >= deadline:
                    raise
            await asyncio.sleep(FIND_EVERY_S)


def _is_locked(descriptor: int) -> bool:
    try:
        # Nobody else ever waits for this lock: a service locks a file of its own making.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
