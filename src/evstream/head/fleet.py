"""The edges that clients are sent to, as they were a moment ago."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable

from evstream.domain.names import ProductKey
from evstream.domain.products import Edge
from evstream.ports import ProductCatalogue
from evstream.wire.signed_urls import DerivedKeys, UrlSigner

LOOK_EVERY_S = 1.0
HOMES_MAX = 3
"""Edges that a plan names at most."""


class Fleet:
    """Knows the living edges, and signs what each of them checks.

    Parameters
    ----------
    secret : bytes
        The heads': each edge's keys derive from it.
    """

    def __init__(self, products: ProductCatalogue, secret: bytes) -> None:
        self._products = products
        self._secret = secret
        self._signers: dict[str, UrlSigner] = {}
        self._edges: list[Edge] = []
        self._due = float("-inf")
        self._looking = asyncio.Lock()

    async def look(self) -> None:
        """Ask the catalogue which edges there are, unless that was done a moment ago."""
        time = asyncio.get_running_loop().time
        if time() < self._due:
            return
        async with self._looking:
            if time() < self._due:
                return
            now = await self._products.now()
            self._edges = [
                edge
                for edge in await self._products.edges()
                if edge.kind == "edge"
                and edge.state in ("serving", "draining")
                and (edge.alive_until is None or edge.alive_until > now)
            ]
            self._due = time() + LOOK_EVERY_S

    def homes(self, key: ProductKey) -> list[Edge]:
        """Return where a product is asked for, in order: the same for whoever asks.

        By rendezvous: of all edges those whose hash with the key is highest, so that an
        edge that comes or goes moves no product but its own.
        """
        taking = [
            edge for edge in self._edges if edge.state == "serving" and not edge.status.leaving
        ]
        return sorted(taking, key=_weight(key))[:HOMES_MAX]

    def keys(self, name: str) -> DerivedKeys:
        """Return an edge's keys."""
        return DerivedKeys(self._secret, name)

    def signer(self, name: str) -> UrlSigner:
        """Return what signs URLs that an edge accepts."""
        if name not in self._signers:
            self._signers[name] = UrlSigner(self.keys(name))
        return self._signers[name]


def _weight(key: ProductKey) -> Callable[[Edge], bytes]:
    return lambda edge: hashlib.sha256(f"{key} {edge.name}".encode()).digest()
