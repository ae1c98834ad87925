"""TLS as clients speak it: whom they trust."""

from __future__ import annotations

import ssl
from functools import lru_cache
from pathlib import Path

from evstream.domain.errors import ConfigError


@lru_cache(maxsize=16)
def client_context(ca_file: str = "") -> ssl.SSLContext:
    """Return the context of connections to servers.

    Parameters
    ----------
    ca_file : str
        PEM file of further authorities to trust, or a folder of them, hashed as
        ``/etc/grid-security/certificates`` is; empty: the system's alone.

    Raises
    ------
    ConfigError
        It cannot be read.
    """
    context = ssl.create_default_context()
    if ca_file:
        folder = Path(ca_file).is_dir()
        try:
            context.load_verify_locations(**{"capath" if folder else "cafile": ca_file})
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"the authorities in {ca_file} cannot be read: {error}",
                hint="give a PEM file, or a folder of hashed ones (ca_file)",
            ) from error
    return context
