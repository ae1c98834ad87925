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
from evstream.settings import Settings

if TYPE_CHECKING:
    from evstream.assembly.listening import Served


def run_service(
    open_service: Callable[[], AbstractAsyncContextManager[Served]],
    open_door: Callable[[], tuple[socket.socket, Address]],
    settings: Settings,
    what: str,
) -> None:
    """Serve until SIGINT or SIGTERM.

    Parameters
    ----------
    open_service : callable
        Opens an application of `evstream.assembly`.
    settings : Settings
        Of the service: where its folder is, and how it writes its log.
    what : str
        How to call it in the line on standard error.
    """
    from evstream import assembly

    assembly.write_logs(settings.log_format, settings.log_level)
    directory = Path(settings.data_dir)

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
