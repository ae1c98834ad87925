"""``evstream serve``: the embedded service of a data directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from evstream.cli.listening import DEFAULT_LISTENING, Listening, open_door
from evstream.cli.service import settings_of
from evstream.cli.serving import run_service
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
    if port is None and not settings.listen:
        run_service(
            lambda: assembly.open_embedded(settings),
            lambda: assembly.unix_door(directory),
            settings,
            str(directory),
        )
        return
    # First of all: without the port, nothing is made.
    door, url = open_door(port, settings)
    address = Address(url, assembly.door_token(directory), settings.ca_file)
    run_service(
        lambda: assembly.open_embedded(settings, token=address.token),
        lambda: (door, address),
        settings,
        str(directory),
    )
