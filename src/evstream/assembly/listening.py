"""Doors that a service listens at, and the server behind them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn

from evstream.assembly.application import Application
from evstream.client import Address
from evstream.domain.errors import ConfigError, LimitError

SOCKET_NAME = "evstream.sock"
SOCKET_PATH_MAX = 100
"""Bytes; the kernel takes 107."""


@asynccontextmanager
async def listen(
    application: Application, door: socket.socket, address: Address, data_dir: Path
) -> AsyncIterator[None]:
    """Serve an application on a socket while the context lasts, its loops beside it."""
    config = uvicorn.Config(
        application.app,
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


def tcp_door(port: int) -> tuple[socket.socket, str]:
    """Return a TCP socket on the loopback interface, and its URL.

    From now on the port is ours; who connects waits until somebody serves.

    Raises
    ------
    ConfigError
        The port is taken, or may not be used.
    """
    if not 0 <= port <= 65535:
        raise LimitError(f"there is no port {port}", hint="choose one from 0 to 65535")
    door = socket.socket(socket.AF_INET)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        door.bind(("127.0.0.1", port))
    except OSError as error:
        door.close()
        raise ConfigError(
            f"cannot listen on port {port}: {error.strerror}",
            hint="choose another with --port, or 0 for any",
        ) from error
    door.listen(256)
    return door, f"http://127.0.0.1:{door.getsockname()[1]}"
