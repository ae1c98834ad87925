"""``evstream edge``: serve products near the workers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from evstream.cli.listening import DEFAULT_LISTENING, Listening, open_door
from evstream.cli.service import settings_of
from evstream.cli.serving import run_service
from evstream.client import Address


def edge(
    *,
    head: Annotated[str | None, Parameter(help="Address of the head: https://HOST:PORT.")] = None,
    name: Annotated[str | None, Parameter(help="Name of this edge, the same each time.")] = None,
    url: Annotated[
        str | None, Parameter(help="Where clients reach it, if not where it listens.")
    ] = None,
    site: Annotated[str | None, Parameter(help="Where it is, such as an RSE's name.")] = None,
    port: Annotated[
        int | None, Parameter(help="Listen on this TCP port of the loopback interface (0: any).")
    ] = None,
    data: Annotated[
        Path | None, Parameter(help="Folder of its own; nothing there is precious.")
    ] = None,
    cache: Annotated[
        str | None, Parameter(help="Where products are kept: a folder, or s3://BUCKET/PREFIX.")
    ] = None,
    token: Annotated[str | None, Parameter(help="What the head lets it in with.")] = None,
    listening: Listening = DEFAULT_LISTENING,
) -> None:
    """Serve products near the workers until told to stop (SIGINT, SIGTERM).

    It makes them from the sources that the head tells of, once however many ask. Kill
    it at any time, and throw away its folder: the head sends clients elsewhere.

    For example:

        evstream edge --head https://evstream.example.org --name T2_DE --data /cache/evstream
    """
    from evstream import assembly

    settings = settings_of(
        head=head,
        edge_name=name,
        edge_url=url,
        site=site,
        data_dir=data.absolute() if data else None,
        cache=cache,
        token=token,
        **listening.flags(),
    )
    directory = Path(settings.data_dir)
    door, own_url = open_door(port, settings)
    address = Address(own_url, assembly.door_token(directory), settings.ca_file)
    run_service(
        lambda: assembly.open_edge(settings, own_url, address.token),
        lambda: (door, address),
        settings,
        f"edge {settings.edge_name}",
    )
