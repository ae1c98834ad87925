"""What an edge asks of a head: a method per route."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import quote, urlencode

from evstream.client.connection import Connection
from evstream.domain.dataset import Fingerprint, SourceFile
from evstream.domain.descriptor import Descriptor
from evstream.domain.edges import BadReplica, EdgeState
from evstream.domain.names import Guid, Lfn, Pfn, ProductKey
from evstream.domain.products import Edge
from evstream.wire import edge_messages as m
from evstream.wire.product_messages import Changed


class Edges:
    """Edges and what they need to know.

    Parameters
    ----------
    connection : Connection
        The service's, which closes it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def beat(self, edge: str, beat: m.EdgeBeat) -> m.BeatAnswer:
        """Say that an edge is there; returns what it is told."""
        return await self._connection.call("POST", f"{_path(edge)}/beats", m.BeatAnswer, beat)

    async def set_state(self, edge: str, state: EdgeState, reason: str = "") -> Edge:
        """Decide what an edge may do."""
        asked = m.EdgeStateRequest(state, reason)
        return await self._connection.call("POST", f"{_path(edge)}/state", Edge, asked)

    async def complain(self, complaint: m.Complaint) -> m.Judged:
        """Say that an edge sent other bytes; return whether it did, and which are right."""
        return await self._connection.call("POST", "/v1/complaints", m.Judged, complaint)

    async def bad_replicas(self, edge: str, found: list[BadReplica]) -> int:
        """Say which replicas brought wrong bytes; return how many are read no more."""
        path = f"{_path(edge)}/bad-replicas"
        message = m.BadReplicas(found)
        return (await self._connection.call("POST", path, Changed, message)).changed

    async def source(self, fingerprint: Fingerprint, edge: str = "") -> SourceFile:
        """Return a file by its content, with where it is for an edge.

        Raises
        ------
        NotFoundError
            No file of this content is registered.
        """
        asked = {"size": fingerprint.size, "uuid": fingerprint.uuid, "edge": edge}
        query = urlencode({name: value for name, value in asked.items() if value != ""})
        path = f"/v1/sources/{quote(fingerprint.digest, '')}?{query}"
        found = await self._connection.call("GET", path, m.SourceView)
        return SourceFile(
            lfn=Lfn(found.lfn),
            guid=Guid(found.guid),
            pfns=tuple(map(Pfn, found.pfns)),
            fingerprint=found.fingerprint,
            trees=found.trees,
            format=found.format,
            checksums=found.checksums,
        )

    async def index(self, fingerprint: Fingerprint) -> bytes:
        """Return what cuts need to know of a file, as its format encodes it.

        Raises
        ------
        EvstreamError
            No such file is registered, or the service cannot read it.
        """
        query = urlencode({"size": fingerprint.size, "uuid": fingerprint.uuid})
        return await self._connection.content(f"/v1/sources/{fingerprint.digest}/index?{query}")

    async def descriptor(self, key: ProductKey) -> Descriptor:
        """Return the descriptor of a product.

        Raises
        ------
        DescriptorUnknownError
        """
        path = f"/v1/products/{quote(key, '')}/descriptor"
        found = await self._connection.call("GET", path, m.DescriptorView)
        return Descriptor.from_wire(found.descriptor)

    @asynccontextmanager
    async def product(self, url: str) -> AsyncIterator[Callable[[int], AsyncIterator[bytes]]]:
        """Open a product of another edge; what is given returns its bytes in pieces of a size.

        Raises
        ------
        EvstreamError
            It is not there, or the connection broke.
        """
        plain = {"Accept-Encoding": "identity"}
        async with self._connection.stream(url, plain) as response:
            yield response.aiter_bytes


def _path(edge: str) -> str:
    return f"/v1/edges/{quote(edge, '')}"
