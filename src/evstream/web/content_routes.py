"""Routes that carry event data: products out, outputs in and out."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response

from evstream.domain.descriptor import Descriptor
from evstream.domain.errors import RequestError
from evstream.domain.outputs import OutputName
from evstream.domain.streams import FILES_PER_STREAM_MAX
from evstream.web.operations import Operation, Served
from evstream.web.replies import pieces, read, refuse_declared, reply
from evstream.web.representations import Stored, answer
from evstream.web.services import Services
from evstream.wire import messages as m
from evstream.wire import queries as q
from evstream.wire import work_messages as w

DESCRIPTOR_BYTES_MAX = 1 << 20
"""A descriptor that is registered; some ten thousand names of branches."""


DESCRIBE_SLICE = Operation(
    "POST",
    "/v1/slices",
    "describe a cut of a registered file",
    takes=m.NewSlice,
    gives=m.DeliveryPlan,
    errors=(404,),
)
REGISTER_PRODUCT = Operation(
    "POST",
    "/v1/products",
    "register a descriptor",
    takes=m.NewProduct,
    gives=m.DeliveryPlan,
    errors=(404,),
)
PUT_OUTPUT = Operation(
    "PUT",
    "/v1/outputs/{name:path}",
    "store an output",
    takes=bytes,
    gives=w.StoredAnswer,
    query=q.OutputQuery,
    errors=(409,),
    signed=True,
)
GET_OUTPUT = Operation(
    "GET",
    "/v1/outputs/{name:path}",
    "the bytes of an output",
    gives=bytes,
    query=q.SignedQuery,
    errors=(404,),
    signed=True,
)


def content_routes(services: Services) -> list[Served]:
    """Return the routes of slices, products and outputs."""

    async def describe_slice(request: Request) -> Response:
        descriptor = await services.slices.describe(await read(request, m.NewSlice))
        services.products.register(descriptor)
        return reply(await services.slices.plan(descriptor))

    async def register_product(request: Request) -> Response:
        new = await read(request, m.NewProduct, DESCRIPTOR_BYTES_MAX)
        descriptor = Descriptor.from_wire(new.descriptor)
        services.products.register(descriptor)
        return reply(await services.slices.plan(descriptor))

    async def put_output(request: Request) -> Response:
        slot = OutputName.parse(request.path_params["name"])
        name = str(
            replace(
                slot,
                number=_file_number(request, slot),
                entry_stop=_entry_stop(request, slot),
            )
        )
        bytes_max = services.output_bytes_max
        refuse_declared(request, bytes_max)
        stored = await services.store.put(name, pieces(request, bytes_max))
        return reply(w.StoredAnswer(stored.name, stored.size, stored.sha256, stored.adler32))

    async def get_output(request: Request) -> Response:
        name = str(OutputName.parse(request.path_params["name"]))
        stored = await services.store.stat(name)

        def body(start: int, stop: int) -> AsyncIterator[bytes]:
            return services.store.read(name, start, stop - start)

        # Not every store knows a digest; what a name means never changes.
        etag = f'"{stored.sha256 or hashlib.sha256(name.encode()).hexdigest()}"'
        about = Stored(stored.size, etag, body, stored.sha256, stored.adler32)
        return await answer(request, about)

    return [
        DESCRIBE_SLICE.by(describe_slice),
        REGISTER_PRODUCT.by(register_product),
        PUT_OUTPUT.by(put_output),
        GET_OUTPUT.by(get_output),
    ]


def _file_number(request: Request, slot: OutputName) -> int:
    """Return which file of its unit and stream is stored: the slot's own, or a further one."""
    asked = request.query_params.get("n", str(slot.number))
    if not (asked.isascii() and asked.isdigit() and int(asked) < FILES_PER_STREAM_MAX):
        raise RequestError(
            f"a unit leaves no file number {asked[:20]!r} for one stream",
            hint=f"number them from 0 to {FILES_PER_STREAM_MAX - 1}",
        )
    return int(asked)


def _entry_stop(request: Request, slot: OutputName) -> int:
    """Return where the entries of a file end: the slot's own, or before that."""
    asked = request.query_params.get("stop", str(slot.entry_stop))
    stop = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 20 else -1
    if not slot.entry_start < stop <= slot.entry_stop:
        raise RequestError(
            f"entries of this output cannot end at {asked[:20]!r}",
            hint=f"its unit has {slot.entry_start} to {slot.entry_stop}",
        )
    return stop
