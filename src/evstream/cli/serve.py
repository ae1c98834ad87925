"""``evstream serve``: the embedded service of a data directory."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from evstream.cli.listening import DEFAULT_LISTENING, Listening, open_door
from evstream.cli.service import run_async, settings_of
from evstream.client import Address


def serve(
    *,
    data: Annotated[Path | None, Parameter(help="Folder that keeps everything.")] = None,
    catalogue: Annotated[
        str | None,
        Parameter(help="Keep ledger and catalogue there instead: postgresql://USER@HOST/DATABASE."),
    ] = None,
    port: Annotated[
        int | None,
        Parameter(help="Listen on this TCP port of the loopback interface (0: any), with a token."),
    ] = None,
    listening: Listening = DEFAULT_LISTENING,
) -> None:
    """Run the embedded service until it is told to stop (SIGINT, SIGTERM).

    It listens on a Unix socket that you alone may use, or with --port on
    127.0.0.1, or with --listen and TLS anywhere; there it asks for a key, or the token
    in the folder's file 'token'. Kill it at any time: it goes on where it was.

    For example:

        evstream serve --data ~/evstream --port 8400
    """
    from evstream import assembly

    settings = settings_of(
        data_dir=data.absolute() if data else None, catalogue=catalogue, **listening.flags()
    )

    directory = Path(settings.data_dir)
    tcp_door = None
    if port is not None or settings.listen:
        # First of all: without the port, nothing is made.
        socket, url = open_door(port, settings)
        tcp_door = socket, Address(url, assembly.door_token(directory), settings.ca_file)

    async def main() -> None:
        token = tcp_door[1].token if tcp_door else ""
        async with assembly.open_embedded(settings, token=token) as application:
            door, address = tcp_door or assembly.unix_door(directory)
            stop = asyncio.Event()
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
            async with assembly.listen(application, door, address, directory):
                print(
                    f"evstream serves {directory} at {address.url}",
                    file=sys.stderr,
                    flush=True,
                )
                await stop.wait()

    run_async(main)
