"""File formats of event data: ROOT by `evstream.rootio`, the others by well-kept libraries.

One file a format; `known` is the list of them, and names what belongs to none.
"""

from evstream.adapters.formats.known import KnownFormats
from evstream.adapters.formats.root import RootFormat
from evstream.adapters.formats.root_makers import RootMakers

__all__ = ["KnownFormats", "RootFormat", "RootMakers"]
