"""Routes of API keys, and of who the caller is."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from evstream.domain.access import AccessKey
from evstream.web.doors import caller_of
from evstream.web.operations import Operation, Served
from evstream.web.replies import query_of, read, reply
from evstream.web.services import Services
from evstream.wire import access_messages as m
from evstream.wire.pages import NumberedPage, NumbersQuery, places_page

CALLER = Operation("GET", "/v1/caller", "who the service takes the caller for", gives=m.CallerView)
LIST = Operation(
    "GET", "/v1/keys", "API keys", gives=NumberedPage[m.AccessKeyView], query=NumbersQuery
)
ADD = Operation(
    "PUT",
    "/v1/keys/{id}",
    "give out an API key",
    takes=m.NewAccessKey,
    gives=m.AccessKeyView,
    errors=(409,),
)
REVOKE = Operation(
    "DELETE", "/v1/keys/{id}", "end an API key", gives=m.AccessKeyView, errors=(404,)
)


def access_routes(services: Services) -> list[Served]:
    """Return the routes under /v1/keys, and /v1/caller."""

    async def add(request: Request) -> Response:
        new = await read(request, m.NewAccessKey)
        return reply(_view(await services.access.add_key(str(request.path_params["id"]), new)))

    async def list_keys(request: Request) -> Response:
        query = query_of(request, NumbersQuery)
        views = [_view(key) for key in await services.access.keys()]
        return reply(places_page(views, query))

    async def revoke(request: Request) -> Response:
        return reply(_view(await services.access.revoke_key(str(request.path_params["id"]))))

    async def show_caller(request: Request) -> Response:
        caller = caller_of(request.scope)
        roles, readable = sorted(caller.roles), list(caller.readable)
        return reply(m.CallerView(caller.name, roles, caller.edge, readable))

    return [CALLER.by(show_caller), LIST.by(list_keys), ADD.by(add), REVOKE.by(revoke)]


def _view(key: AccessKey) -> m.AccessKeyView:
    told = (key.id, key.role, key.name, key.created, key.edge)
    return m.AccessKeyView(*told, key.expires, key.revoked, key.last_used)
