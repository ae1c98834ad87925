"""Where adapters meet services; embedded and production differ here and nowhere else.

What is asked of it is loaded when it is: a pilot needs nothing of a head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evstream.late import late

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
    "evstream.adapters.logs": ("write_logs",),
    "evstream.assembly.application": ("Application", "Keys", "Parts"),
    "evstream.assembly.clients": ("connect", "make_pilot"),
    "evstream.assembly.edge": ("EdgeApplication", "open_edge"),
    "evstream.assembly.embedded": ("open_embedded",),
    "evstream.assembly.listening": ("SOCKET_NAME", "listen", "tcp_door", "unix_door"),
    "evstream.assembly.offline": (
        "back_up_catalogue",
        "make_formats",
        "make_readers",
        "make_root_format",
        "restore_catalogue",
        "verify_receipt",
    ),
    "evstream.assembly.secret_files": ("door_token",),
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

__getattr__ = late(__name__, _PLACES)
