"""Doors that a service listens at, and the server behind them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import uvicorn
from starlette.applications import Starlette

from evstream.adapters.clock import SystemClock
from evstream.assembly.tls import ServerTls
from evstream.client import Address
from evstream.domain.errors import ConfigError, LimitError
from evstream.web.file_sending import FileSendingProtocol
from evstream.web.patience import READ_S_MAX
from evstream.web.tls_transport import TlsAcceptor

SOCKET_NAME = "evstream.sock"
LOOKED_THROUGH_EVERY = 20_000
"""So many objects more than before: requests leave next to nothing that is not freed at once."""
SOCKET_PATH_MAX = 100
"""Bytes; the kernel takes 107."""


class Served(Protocol):
    """An application, and what runs beside it."""

    @property
    def app(self) -> Starlette:
        """Its API."""
        ...

    def loops(self) -> Sequence[Coroutine[Any, Any, None]]:
        """Return what runs beside it."""
        ...


@asynccontextmanager
async def listen(
    application: Served, door: socket.socket, address: Address, data_dir: Path
) -> AsyncIterator[None]:
    """Serve an application on a socket while the context lasts, its loops beside it."""
    tls = door.tls if isinstance(door, TcpDoor) else None
    if isinstance(door, TcpDoor) and not address.token:
        raise ConfigError("a TCP port without a token is open to every user of this machine")
    config = uvicorn.Config(
        application.app,
        http=protocol_of(tls, application.app),
        ws="none",
        log_config=None,
        access_log=False,
        lifespan="off",
        # Nobody looks at who asks: doors are opened by tokens and signatures.
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=5,
        timeout_keep_alive=75,
    )
    server = _Server(config)
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(server.serve(sockets=[door]))
        loops = [group.create_task(loop) for loop in application.loops()]
        if tls is not None:
            loops.append(group.create_task(tls.watch(SystemClock())))
        # What there is now stays: nobody waits while it is looked through for what does not.
        gc.collect()
        gc.freeze()
        gc.set_threshold(LOOKED_THROUGH_EVERY)
        with address.published(data_dir):
            try:
                yield
            finally:
                for loop in loops:
                    loop.cancel()
                server.should_exit = True
                await serving
                if address.url.startswith("unix:"):
                    _remove_socket(data_dir / SOCKET_NAME)


def protocol_of(tls: ServerTls | None, app: Starlette) -> Any:
    """Return what makes the protocol of each connection to an application."""
    plain = partial(FileSendingProtocol, at_once=getattr(app.state, "at_once", None))
    if tls is None:
        return plain
    # A certificate that is renewed is in the same context.
    return lambda **parts: TlsAcceptor(tls.context, plain(**parts))


class _Server(uvicorn.Server):
    """A server that leaves the signals to whoever started it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


def _remove_socket(path: Path) -> None:
    """Remove a data directory's socket, or the link to it, wherever it leads."""
    if path.is_symlink():
        place = path.readlink()
        if place.is_socket():
            with contextlib.suppress(OSError):
                place.unlink()
                place.parent.rmdir()
    path.unlink(missing_ok=True)


def unix_door(data_dir: Path) -> tuple[socket.socket, Address]:
    """Return a Unix socket that its owner alone may connect to, and its address.

    The caller owns the data directory, so that a socket left there is nobody's. Where
    the path is too long for a socket, it lies elsewhere, and a link leads to it.
    """
    path = place = data_dir / SOCKET_NAME
    _remove_socket(path)
    if len(os.fsencode(path)) > SOCKET_PATH_MAX:
        # A batch job's own folder for temporary files can be as deep.
        deep = len(os.fsencode(tempfile.gettempdir())) > SOCKET_PATH_MAX // 2
        # mkdtemp makes a folder that is its owner's alone, wherever that is.
        parent = "/tmp" if deep else None  # noqa: S108
        place = Path(tempfile.mkdtemp(prefix="evstream-", dir=parent)) / SOCKET_NAME
        path.symlink_to(place)
    door = socket.socket(socket.AF_UNIX)
    # The mode is set before anybody can find the socket, not after.
    before = os.umask(0o177)
    try:
        door.bind(str(place))
    finally:
        os.umask(before)
    door.listen(256)
    return door, Address(f"unix:{place}")


class TcpDoor(socket.socket):
    """A listening TCP socket, which knows whether TLS is spoken there.

    Attributes
    ----------
    tls : ServerTls or None
    """

    tls: ServerTls | None = None


def tcp_door(
    port: int, listen_at: str = "", cert_file: str = "", key_file: str = ""
) -> tuple[TcpDoor, str]:
    """Return a TCP socket, and its URL.

    From now on the port is ours; who connects waits until somebody serves.

    Parameters
    ----------
    port : int
        Of the loopback interface, unless ``listen_at`` says where.
    listen_at : str
        ``HOST:PORT``, an IPv6 address in brackets.
    cert_file, key_file : str
        Paths of what TLS is spoken with; without, the door is for this machine alone.

    Raises
    ------
    ConfigError
        The port is taken, or may not be used; or others than this machine could come to it
        without TLS.
    """
    tls = ServerTls(Path(cert_file), Path(key_file or cert_file)) if cert_file else None
    host, port = _host_and_port(listen_at) if listen_at else ("127.0.0.1", port)
    if not 0 <= port <= 65535:
        raise LimitError(f"there is no port {port}", hint="choose one from 0 to 65535")
    family, place = _resolved(host, port)
    if tls is None and not ipaddress.ip_address(place[0].partition("%")[0]).is_loopback:
        raise ConfigError(
            f"{host} can be reached from other machines, and without TLS tokens would cross the"
            " network for all to read",
            hint="give --tls-cert and --tls-key, or listen on 127.0.0.1 behind a proxy with TLS",
        )
    # With its protocol named: where it is not, asyncio leaves Nagle's delay on, and answers whose
    # head and body are written one after the other take a round trip more.
    door = TcpDoor(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    door.tls = tls
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # What was sent and is never taken does not keep a connection: not while it is closed, either.
    door.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(READ_S_MAX * 1000))
    try:
        door.bind(place)
    except OSError as error:
        door.close()
        raise ConfigError(
            f"cannot listen on port {port}: {error.strerror}",
            hint="choose another with --port or --listen, or 0 for any",
        ) from error
    door.listen(256)
    shown = f"[{host}]" if ":" in host else host
    if tls is not None:
        # What clients can check; an address such as 0.0.0.0 is nowhere.
        shown = tls.name() or shown
    return door, f"{'https' if tls else 'http'}://{shown}:{door.getsockname()[1]}"


def _host_and_port(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    if not colon or not host or not (port.isascii() and port.isdecimal() and len(port) <= 5):
        raise ConfigError(
            f"{text[:200]!r} is no place to listen at",
            hint="give HOST:PORT, as in 0.0.0.0:8443 or [::]:8443",
        )
    return host, int(port)


def _resolved(host: str, port: int) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigError(
            f"there is no address of {host!r} to listen at: {error}", hint="give an IP address"
        ) from error
    family, _, _, _, place = found[0]
    return family, place
