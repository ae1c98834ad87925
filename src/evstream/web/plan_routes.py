"""Routes of plans, sites, links and foreign ranges."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from urllib.parse import urljoin

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from evstream.domain.errors import RequestError
from evstream.domain.sites import SITE_NAME, Site
from evstream.web.operations import Operation, Served
from evstream.web.replies import query_of, read, reply
from evstream.web.services import Services
from evstream.wire import delivery_messages as m
from evstream.wire.pages import (
    NamedPage,
    NamesQuery,
    NumberedPage,
    NumbersQuery,
    names_page,
    places_page,
)
from evstream.wire.product_messages import Changed
from evstream.wire.replica_lists import METALINK, POOL_FILE_CATALOG, metalink, pool_file_catalog

PLAN = Operation(
    "POST",
    "/v1/plans",
    "where products are had, best first, and why",
    takes=m.NewPlan,
    gives=m.PlansAnswer,
    also=(METALINK, POOL_FILE_CATALOG),
    errors=(404, 409, 422),
)
FOREIGN = Operation(
    "POST",
    "/v1/foreign-ranges",
    "what delivers ranges of another workload manager",
    takes=m.ForeignRequest,
    gives=m.ForeignAnswers,
    errors=(404, 409, 422),
)
NOTE_LINKS = Operation(
    "POST",
    "/v1/links",
    "tell what was measured of links between sites and edges",
    takes=m.SeenLinks,
    gives=Changed,
)
LIST_LINKS = Operation(
    "GET",
    "/v1/links",
    "what is known of links between sites and edges",
    gives=NumberedPage[m.LinkView],
    query=NumbersQuery,
)
ADD_SITE = Operation("PUT", "/v1/sites/{site}", "say where a site is", takes=m.NewSite, gives=Site)
REMOVE_SITE = Operation(
    "DELETE", "/v1/sites/{site}", "take a site out", gives=Changed, errors=(404,)
)
LIST_SITES = Operation("GET", "/v1/sites", "list sites", gives=NamedPage[Site], query=NamesQuery)

_WRITERS: dict[str, Callable[[Iterable[m.PlanView]], str]] = {
    METALINK: metalink,
    POOL_FILE_CATALOG: pool_file_catalog,
}


def plan_routes(services: Services) -> list[Served]:
    """Return the routes of plans, sites, links and foreign ranges."""

    async def plan(request: Request) -> Response:
        plans = await services.plans.plan(await read(request, m.NewPlan))
        wanted = request.headers.get("Accept", "").partition(";")[0].strip().lower()
        if (write := _WRITERS.get(wanted)) is None:
            return reply(m.PlansAnswer(plans))
        # These leave for other software, to which a path alone says nothing.
        told = [absolute(one, str(request.base_url)) for one in plans]
        return Response(write(told), media_type=wanted)

    async def foreign(request: Request) -> Response:
        asked = await read(request, m.ForeignRequest)
        return reply(m.ForeignAnswers(await services.foreign.find(asked)))

    async def note_links(request: Request) -> Response:
        seen = await read(request, m.SeenLinks)
        return reply(Changed(await services.plans.note_links(seen)))

    async def list_links(request: Request) -> Response:
        query = query_of(request, NumbersQuery)
        return reply(places_page(await services.plans.links(), query))

    async def add_site(request: Request) -> Response:
        new = await read(request, m.NewSite)
        return reply(await services.plans.add_site(_site_of(request), new))

    async def remove_site(request: Request) -> Response:
        await services.plans.remove_site(_site_of(request))
        return reply(Changed(1))

    async def list_sites(request: Request) -> Response:
        query = query_of(request, NamesQuery)
        return reply(names_page(await services.plans.sites(), lambda site: site.name, query))

    return [
        PLAN.by(plan),
        FOREIGN.by(foreign),
        NOTE_LINKS.by(note_links),
        LIST_LINKS.by(list_links),
        ADD_SITE.by(add_site),
        REMOVE_SITE.by(remove_site),
        LIST_SITES.by(list_sites),
    ]


def absolute(plan: m.PlanView, base: str) -> m.PlanView:
    """Return a plan whose URLs on this service begin with where it was reached."""
    endpoints = [msgspec.structs.replace(one, url=urljoin(base, one.url)) for one in plan.endpoints]
    return msgspec.structs.replace(plan, endpoints=endpoints)


def _site_of(request: Request) -> str:
    name = str(request.path_params["site"])
    if not re.fullmatch(SITE_NAME, name):
        raise RequestError(
            f"{name[:100]!r} cannot name a site",
            hint="use at most 100 letters, digits, '.', '_' and '-'",
        )
    return name
