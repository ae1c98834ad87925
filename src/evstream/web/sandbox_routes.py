"""Routes of sandboxes: archives of payloads' code, by their digest."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response

from evstream.domain.errors import RequestError
from evstream.domain.payload import SHA256, sandbox_name
from evstream.web.operations import Operation, Served
from evstream.web.replies import pieces, refuse_declared, reply
from evstream.web.representations import Stored, answer
from evstream.web.services import Services
from evstream.wire import queries as q
from evstream.wire import work_messages as w

PUT_SANDBOX = Operation(
    "PUT",
    "/v1/sandboxes/{sha256}",
    "store an archive of a payload's code",
    takes=bytes,
    gives=w.StoredAnswer,
    query=q.SignedQuery,
    errors=(409,),
    signed=True,
)
GET_SANDBOX = Operation(
    "GET",
    "/v1/sandboxes/{sha256}",
    "the bytes of such an archive",
    gives=bytes,
    query=q.SignedQuery,
    errors=(404,),
    signed=True,
)


def sandbox_routes(services: Services) -> list[Served]:
    """Return the routes of sandboxes."""

    async def put_sandbox(request: Request) -> Response:
        sha256 = _digest(request)
        refuse_declared(request, services.output_bytes_max)
        name = sandbox_name(sha256)
        stored = await services.store.put(name, pieces(request, services.output_bytes_max))
        if stored.sha256 != sha256:
            await services.store.delete(name)
            raise RequestError(
                f"the sandbox has the sha256 {stored.sha256}, not {sha256}", hint="send it again"
            )
        return reply(w.StoredAnswer(sha256, stored.size, stored.sha256, stored.adler32))

    async def get_sandbox(request: Request) -> Response:
        sha256 = _digest(request)
        name = sandbox_name(sha256)
        stored = await services.store.stat(name)

        def body(start: int, stop: int) -> AsyncIterator[bytes]:
            return services.store.read(name, start, stop - start)

        about = Stored(stored.size, f'"{sha256}"', body, sha256, stored.adler32)
        return await answer(request, about)

    return [
        PUT_SANDBOX.by(put_sandbox),
        GET_SANDBOX.by(get_sandbox),
    ]


def _digest(request: Request) -> str:
    sha256 = str(request.path_params["sha256"])
    if not re.fullmatch(SHA256, sha256):
        raise RequestError(f"{sha256[:80]!r} is no sha256", hint="give 64 hexadecimal digits")
    return sha256
