"""``evstream head``: the service without products, which edges serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from evstream.cli.listening import DEFAULT_LISTENING, Listening, open_door
from evstream.cli.service import settings_of
from evstream.cli.serving import run_service
from evstream.client import Address


def head(
    *,
    data: Annotated[Path | None, Parameter(help="Folder of this head's own.")] = None,
    catalogue: Annotated[
        str | None,
        Parameter(help="What all heads share: postgresql://USER@HOST/DATABASE."),
    ] = None,
    port: Annotated[
        int | None, Parameter(help="Listen on this TCP port of the loopback interface (0: any).")
    ] = None,
    listening: Listening = DEFAULT_LISTENING,
) -> None:
    """Run a head until it is told to stop (SIGINT, SIGTERM).

    It knows datasets, tasks and edges, hands out work, and tells where products are;
    edges make and serve them. Several heads share a database, behind any load balancer.

    For example:

        evstream head --data /var/lib/evstream --catalogue postgresql://db/evstream
    """
    from evstream import assembly

    settings = settings_of(
        data_dir=data.absolute() if data else None, catalogue=catalogue, **listening.flags()
    )
    directory = Path(settings.data_dir)
    # First of all: without the port, nothing is made.
    door, url = open_door(port, settings)
    address = Address(url, assembly.door_token(directory), settings.ca_file)
    run_service(
        lambda: assembly.open_embedded(settings, token=address.token, redirects=True),
        lambda: (door, address),
        settings,
        f"as head {directory}",
    )
