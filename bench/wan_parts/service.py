"""A head or an edge as `evstream head` and `evstream edge` run them, at an address without TLS.

``python -m bench.wan_parts.service HOST PORT DATA [HEAD_URL TOKEN]``

The product refuses that, and rightly. Peers are read without TLS here too: the link is ours, and
what is compared is the way to read.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path

from evstream import assembly
from evstream.assembly.listening import TcpDoor
from evstream.cli.service import settings_of
from evstream.cli.serving import run_service
from evstream.client import Address


def _door(host: str, port: int) -> TcpDoor:
    door = TcpDoor(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    door.bind((host, port))
    door.listen(256)
    return door


def main(host: str, port: int, data: Path, head: str = "", token: str = "") -> None:
    """Serve until told to stop."""
    url = f"http://{host}:{port}"
    data.mkdir(parents=True, exist_ok=True)
    if head:
        settings = settings_of(
            data_dir=data, head=head, edge_name="beside-origin", edge_url=url, token=token
        )
        address = Address(url, assembly.door_token(data))
        run_service(
            lambda: assembly.open_edge(settings, url, address.token),
            lambda: (_door(host, port), address), settings, "edge",
        )  # fmt: skip
        return
    settings = settings_of(data_dir=data)
    address = Address(url, assembly.door_token(data))
    run_service(
        lambda: assembly.open_embedded(settings, token=address.token, redirects=True),
        lambda: (_door(host, port), address), settings, "head",
    )  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:])
