"""Where a service reads files that others name: not from its own machine and network by chance.

Whoever may register a dataset names URLs and paths that the service then opens with its own
rights, from where it stands. Unless it is the user's own service, it opens none that leads to its
loopback interface, to a link-local address such as a cloud's metadata service, or into a private
network, and no file outside the folders that are meant for it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Self
from urllib.parse import urlsplit

from evstream.domain.errors import AccessError, ConfigError
from evstream.domain.names import without_secrets

ANY = "any"
PROTOCOLS = frozenset({"http", "https", "s3", "s3a", "root", "roots", "xroot"})
"""What is opened for others. Chains of protocols, and the many more of fsspec, are not."""
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class SourceRules:
    """What may be opened.

    Attributes
    ----------
    roots : tuple of PurePosixPath or None
        Folders of local files; None: all.
    networks : tuple of networks or None
        Those that are allowed though they are not public; None: all.
    """

    roots: tuple[PurePosixPath, ...] | None = None
    networks: tuple[_Network, ...] | None = None

    @classmethod
    def parse(cls, roots: str, networks: str, *, own: bool) -> Self:
        """Read settings.

        Parameters
        ----------
        roots : str
            Folders with ``:`` between, or ``any``.
        networks : str
            Such as ``10.1.0.0/16`` with spaces between, or ``any``.
        own : bool
            The service is its user's own: what is not set is not restricted.

        Raises
        ------
        ConfigError
        """
        return cls(_roots(roots, own=own), _networks(networks, own=own))

    def check_path(self, path: str) -> None:
        """Refuse a local file, by its path without symbolic links.

        Raises
        ------
        AccessError
        """
        if self.roots is not None and not any(
            PurePosixPath(path).is_relative_to(root) for root in self.roots
        ):
            raise AccessError(
                f"{path} is in no folder that this service reads",
                hint="name a URL, or have source_roots name its folder",
            )

    def check_url(self, url: str) -> str:
        """Refuse a URL by its form; return the host to be looked up, if there is one.

        Where all networks may be read but not all files, other protocols and chains would lead
        to files by another name (``local://``, ``simplecache::``).

        Raises
        ------
        AccessError
        """
        if self.networks is None and self.roots is None:
            return ""
        shown = without_secrets(url)
        protocol = url.partition("://")[0].lower()
        # Within brackets, it is part of an IPv6 address.
        if "::" in re.sub(r"\[[0-9a-fA-F:.]*\]", "", url):
            raise AccessError(f"{shown} is a chain of protocols", hint="name a plain URL")
        if protocol not in PROTOCOLS:
            raise AccessError(
                f"{protocol[:40]}:// is not opened for others",
                hint=f"use one of {', '.join(sorted(PROTOCOLS))}",
            )
        if protocol.startswith("s3") or self.networks is None:
            return ""
        try:
            host = urlsplit(url).hostname
        except ValueError:
            host = None
        if not host:
            raise AccessError(f"{shown} names no host")
        return host

    def allows(self, address: str) -> bool:
        """Whether connections may be made to an address."""
        if self.networks is None:
            return True
        found = _plain(address)
        return (found.is_global and not found.is_multicast) or any(
            found in network for network in self.networks if network.version == found.version
        )


def _plain(address: str) -> _Address:
    """Return an address; an IPv4 one that is dressed as IPv6 as what it is."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inside = found.ipv4_mapped or found.sixtofour
        if inside is None and found in ipaddress.ip_network("64:ff9b::/96"):
            inside = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        return inside or found
    return found


def _roots(text: str, *, own: bool) -> tuple[PurePosixPath, ...] | None:
    if text == ANY or (own and not text):
        return None
    roots = tuple(PurePosixPath(root) for root in text.split(":") if root)
    for root in roots:
        if not root.is_absolute():
            raise ConfigError(f"source_roots: {root} is a relative path", hint="give it from / on")
    return roots


def _networks(text: str, *, own: bool) -> tuple[_Network, ...] | None:
    if text == ANY or (own and not text):
        return None
    found: Sequence[str] = text.split()
    try:
        return tuple(ipaddress.ip_network(word) for word in found)
    except ValueError as error:
        raise ConfigError(
            f"source_networks: {error}", hint="write networks such as 10.1.0.0/16"
        ) from error
