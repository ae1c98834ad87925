"""How commands serve: until a signal, with a line that says where."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from evstream.cli.service import run_async
from evstream.client import Address

if TYPE_CHECKING:
    from evstream.assembly.listening import Served


def run_service(
    open_service: Callable[[], AbstractAsyncContextManager[Served]],
    open_door: Callable[[], tuple[socket.socket, Address]],
    directory: Path,
    what: str,
) -> None:
    """Serve until SIGINT or SIGTERM.

    Parameters
    ----------
    open_service : callable
        Opens an application of `evstream.assembly`.
    what : str
        How to call it in the line on standard error.
    """
    from evstream import assembly

    async def main() -> None:
        async with open_service() as application:
            door, address = open_door()
            stop = asyncio.Event()
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
            async with assembly.listen(application, door, address, directory):
                print(f"evstream serves {what} at {address.url}", file=sys.stderr, flush=True)
                await stop.wait()

    run_async(main)
