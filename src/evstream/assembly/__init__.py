"""Where adapters meet services; embedded and production differ here and nowhere else.

What is asked of it is loaded when it is: a pilot needs nothing of a head.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evstream.adapters.logs import write_logs
    from evstream.assembly.application import Application, Keys, Parts
    from evstream.assembly.clients import connect, make_pilot
    from evstream.assembly.edge import EdgeApplication, open_edge
    from evstream.assembly.embedded import open_embedded
    from evstream.assembly.listening import SOCKET_NAME, listen, tcp_door, unix_door
    from evstream.assembly.offline import (
        back_up_catalogue,
        make_formats,
        make_readers,
        make_root_format,
        restore_catalogue,
        verify_receipt,
    )
    from evstream.assembly.secret_files import door_token

_PLACES = {
    "Application": "evstream.assembly.application",
    "EdgeApplication": "evstream.assembly.edge",
    "Keys": "evstream.assembly.application",
    "Parts": "evstream.assembly.application",
    "SOCKET_NAME": "evstream.assembly.listening",
    "back_up_catalogue": "evstream.assembly.offline",
    "connect": "evstream.assembly.clients",
    "door_token": "evstream.assembly.secret_files",
    "listen": "evstream.assembly.listening",
    "make_formats": "evstream.assembly.offline",
    "make_pilot": "evstream.assembly.clients",
    "make_readers": "evstream.assembly.offline",
    "make_root_format": "evstream.assembly.offline",
    "open_edge": "evstream.assembly.edge",
    "open_embedded": "evstream.assembly.embedded",
    "restore_catalogue": "evstream.assembly.offline",
    "tcp_door": "evstream.assembly.listening",
    "unix_door": "evstream.assembly.listening",
    "verify_receipt": "evstream.assembly.offline",
    "write_logs": "evstream.adapters.logs",
}

__all__ = [
    "SOCKET_NAME",
    "Application",
    "EdgeApplication",
    "Keys",
    "Parts",
    "back_up_catalogue",
    "connect",
    "door_token",
    "listen",
    "make_formats",
    "make_pilot",
    "make_readers",
    "make_root_format",
    "open_edge",
    "open_embedded",
    "restore_catalogue",
    "tcp_door",
    "unix_door",
    "verify_receipt",
    "write_logs",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_PLACES[name]), name)
    return found
