"""File formats of event data: ROOT by `evstream.rootio`, the others by well-kept libraries.

One file a format; `known` is the list of them, and names what belongs to none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evstream.late import late

if TYPE_CHECKING:
    from evstream.adapters.formats.known import KnownFormats
    from evstream.adapters.formats.root import RootFormat
    from evstream.adapters.formats.root_makers import RootMakers

__all__ = ["KnownFormats", "RootFormat", "RootMakers"]

_PLACES = {
    "evstream.adapters.formats.known": ("KnownFormats",),
    "evstream.adapters.formats.root": ("RootFormat",),
    "evstream.adapters.formats.root_makers": ("RootMakers",),
}

__getattr__ = late(__name__, _PLACES)
