"""TLS as a server speaks it: its certificate, taken anew when its files change."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from cryptography import x509

from evstream.domain.errors import ConfigError
from evstream.ports import Clock

_LOG = logging.getLogger(__name__)

LOOK_EVERY_S = 10.0
"""How often the files are looked at; what renews certificates does so days ahead."""


class ServerTls:
    """A certificate with its key, in PEM files that somebody else renews.

    Attributes
    ----------
    context : ssl.SSLContext
        Of all connections; those that are made after a change have the new certificate.

    Raises
    ------
    ConfigError
        The files cannot be read, or do not belong together.
    """

    def __init__(self, cert: Path, key: Path) -> None:
        self._cert, self._key = cert, key
        self._seen = self._look()
        self.context = self._load()

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self._cert, self._key)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"the certificate {self._cert} with the key {self._key} cannot be used: {error}",
                hint="give PEM files that belong together and that this user may read",
            ) from error
        return context

    def _look(self) -> tuple[tuple[int, int, int], ...]:
        found = []
        for path in (self._cert, self._key):
            try:
                there = path.stat()
            except OSError:
                found.append((0, 0, 0))
            else:
                found.append((there.st_mtime_ns, there.st_size, there.st_ino))
        return tuple(found)

    def name(self) -> str:
        """Return the first name, else the first address, that the certificate is for."""
        certificate = x509.load_pem_x509_certificate(self._cert.read_bytes())
        try:
            names = certificate.extensions.get_extension_for_class(
                x509.SubjectAlternativeName
            ).value
        except x509.ExtensionNotFound:
            return ""
        addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
        hosts = [
            name for name in names.get_values_for_type(x509.DNSName) if not name.startswith("*")
        ]
        brackets = [f"[{address}]" if ":" in address else address for address in addresses]
        return next(iter([*hosts, *brackets]), "")

    def reload(self) -> bool:
        """Take the files anew if they have changed; return whether that was done.

        Those that do not belong together, as while they are being replaced, are left until
        they do.
        """
        seen = self._look()
        if seen == self._seen:
            return False
        try:
            # First elsewhere: a chain that is refused half-way would spoil the context.
            self._load()
            self.context.load_cert_chain(self._cert, self._key)
        except (ConfigError, OSError, ssl.SSLError) as error:
            _LOG.warning("evstream: the certificate in use is kept: %s", error)
            return False
        self._seen = seen
        return True

    async def watch(self, clock: Clock) -> None:
        """Look at the files from time to time, for ever."""
        while True:
            await clock.sleep(LOOK_EVERY_S)
            if self.reload():
                _LOG.info("evstream: %s is taken anew", self._cert)
