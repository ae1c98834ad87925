"""Routes that edges live on: beats, states, sources, descriptors."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator

from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from evstream.domain.dataset import Fingerprint
from evstream.domain.errors import DescriptorUnknownError, RequestError
from evstream.domain.names import Pfn, without_secrets
from evstream.domain.payload import SHA256
from evstream.domain.products import Edge
from evstream.web.doors import caller_of
from evstream.web.operations import Operation, Served
from evstream.web.product_routes import edge_of, key_of
from evstream.web.replies import query_of, read, reply
from evstream.web.representations import Stored, answer
from evstream.web.services import Services
from evstream.wire import edge_messages as m
from evstream.wire import queries as q
from evstream.wire.product_messages import Changed

BEAT = Operation(
    "POST",
    "/v1/edges/{edge}/beats",
    "an edge beats, and is told what it needs",
    takes=m.EdgeBeat,
    gives=m.BeatAnswer,
)
SET_STATE = Operation(
    "POST",
    "/v1/edges/{edge}/state",
    "decide what an edge may do",
    takes=m.EdgeStateRequest,
    gives=Edge,
    errors=(404,),
)
COMPLAIN = Operation(
    "POST",
    "/v1/complaints",
    "an edge sent other bytes than it should",
    takes=m.Complaint,
    gives=m.Judged,
)
BAD_REPLICAS = Operation(
    "POST",
    "/v1/edges/{edge}/bad-replicas",
    "copies of files that brought wrong bytes",
    takes=m.BadReplicas,
    gives=Changed,
)
SOURCE = Operation(
    "GET",
    "/v1/sources/{digest}",
    "a file by its content, and where it is",
    gives=m.SourceView,
    query=q.SourceQuery,
    errors=(404,),
)
INDEX = Operation(
    "GET",
    "/v1/sources/{digest}/index",
    "what cuts need to know of a file",
    gives=bytes,
    query=q.SourceQuery,
    errors=(404,),
)
DESCRIPTOR = Operation(
    "GET",
    "/v1/products/{key}/descriptor",
    "what a key stands for",
    gives=m.DescriptorView,
    errors=(404,),
)


def fleet_routes(services: Services) -> list[Served]:
    """Return the routes of edges that serve, and of what they ask."""

    async def beat(request: Request) -> Response:
        message = await read(request, m.EdgeBeat)
        return reply(await services.edges.beat(edge_of(request), message))

    async def set_state(request: Request) -> Response:
        message = await read(request, m.EdgeStateRequest)
        return reply(await services.edges.set_state(edge_of(request), message))

    async def complain(request: Request) -> Response:
        message = await read(request, m.Complaint)
        caller = caller_of(request.scope)
        return reply(await services.edges.complain(message, caller))

    async def bad_replicas(request: Request) -> Response:
        message = await read(request, m.BadReplicas)
        return reply(Changed(await services.edges.bad_replicas(edge_of(request), message)))

    async def source(request: Request) -> Response:
        fingerprint, query = _fingerprint(request)
        caller = caller_of(request.scope)
        # Whoever is an edge is no other one.
        found = await services.edges.source(fingerprint, caller.edge or query.edge)
        if not caller.may({"edge", "operator"}):
            # Payloads run beside pilots: what opens more than this file stays here.
            plain = [pfn for pfn in found.pfns if without_secrets(Pfn(pfn)) == pfn]
            found = replace(found, pfns=plain)
        return reply(found)

    async def index(request: Request) -> Response:
        fingerprint, _ = _fingerprint(request)
        content = await services.products.index(fingerprint)

        async def body(start: int, stop: int) -> AsyncIterator[bytes]:
            yield content[start:stop]

        about = Stored(len(content), f'"{hashlib.sha256(content).hexdigest()}"', body)
        return await answer(request, about)

    async def descriptor(request: Request) -> Response:
        key = key_of(request)
        try:
            found = services.products.descriptor(key)
        except DescriptorUnknownError:
            found = await services.edges.descriptor(key)
        return reply(m.DescriptorView(key, found.to_wire()))

    return [
        BEAT.by(beat),
        SET_STATE.by(set_state),
        COMPLAIN.by(complain),
        BAD_REPLICAS.by(bad_replicas),
        SOURCE.by(source),
        INDEX.by(index),
        DESCRIPTOR.by(descriptor),
    ]


def _fingerprint(request: Request) -> tuple[Fingerprint, q.SourceQuery]:
    digest = str(request.path_params["digest"])
    if not re.fullmatch(SHA256, digest):
        raise RequestError(f"{digest[:80]!r} is no digest", hint="give 64 hexadecimal digits")
    query = query_of(request, q.SourceQuery)
    return Fingerprint(query.size, query.uuid, digest), query
