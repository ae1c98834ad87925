"""Who may do what: one line for each route, and no route without its line.

The owner may do everything; whoever has a signed URL, the one thing that it names. A role that
does not stand in a line is refused. Pilots get and leave content by the signed URLs of their
plans, and so need no right to it here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from evstream.domain.access import ROLES, Role
from evstream.domain.errors import AccessError
from evstream.web.doors import SIGNED, caller_of

Roles = frozenset[Role]

EVERYBODY: Roles = frozenset(ROLES)
"""Whoever has good credentials of any kind."""
_PEOPLE: Roles = frozenset({"submitter", "operator"})
_WORK: Roles = frozenset({"pilot", "operator"})
_WORKERS: Roles = frozenset({"pilot", "edge", "operator"})
"""Whoever holds leases; a lease's id is known to its holder alone."""
_EDGES: Roles = frozenset({"edge", "operator"})
_OPERATORS: Roles = frozenset({"operator"})
_MAKERS: Roles = frozenset({"submitter", "pilot", "operator"})
_COMPLAINING: Roles = frozenset({"pilot", "edge", "operator"})
_PLACES: Roles = frozenset({"submitter", "edge", "operator"})

CONTENT = ("/v1/products/{key}", "/v1/outputs/{name:path}", "/v1/sandboxes/{sha256}")
"""Routes of bytes: ``storage.read`` of a token opens them too, below the paths that it names."""

WHO_MAY: Mapping[str, Roles] = {
    "GET /v1/health": EVERYBODY,
    "GET /v1/openapi.json": EVERYBODY,
    "GET /v1/ready": EVERYBODY,
    "GET /metrics": _OPERATORS,
    "GET /v1/caller": EVERYBODY,
    "GET /v1/keys": _OPERATORS,
    "PUT /v1/keys/{id}": _OPERATORS,
    "DELETE /v1/keys/{id}": _OPERATORS,
    # Datasets and tasks.
    "POST /v1/datasets": _PEOPLE,
    "GET /v1/datasets": _PEOPLE,
    "GET /v1/datasets/{name:path}": _PEOPLE,
    "POST /v1/tasks": _PEOPLE,
    "POST /v1/task-previews": _PEOPLE,
    "GET /v1/tasks": _PEOPLE,
    "GET /v1/tasks/{task}": _PEOPLE,
    "GET /v1/tasks/{task}/entries": _PEOPLE,
    "GET /v1/tasks/{task}/failures": _PEOPLE,
    "GET /v1/tasks/{task}/outputs": _PEOPLE,
    "GET /v1/tasks/{task}/report": _PEOPLE,
    "GET /v1/tasks/{task}/receipt": _PEOPLE,
    "GET /v1/submitters": _PEOPLE,
    "POST /v1/tasks/{task}/cancel": _PEOPLE,
    "POST /v1/tasks/{task}/pause": _PEOPLE,
    "POST /v1/tasks/{task}/resume": _PEOPLE,
    "POST /v1/tasks/{task}/schedule": _PEOPLE,
    "POST /v1/tasks/{task}/archive": _OPERATORS,
    "POST /v1/tasks/{task}/retry": _PEOPLE,
    "POST /v1/tasks/{task}/reprocess": _PEOPLE,
    "POST /v1/tasks/{task}/withdraw": _PEOPLE,
    # Work.
    "POST /v1/claims": _WORK,
    "POST /v1/leases/{lease}/renew": _WORKERS,
    "POST /v1/leases/{lease}/release": _WORKERS,
    "POST /v1/workers/{worker}/lost": _WORK,
    "POST /v1/reports": _WORKERS,
    # Content.
    "POST /v1/slices": _PEOPLE,
    "POST /v1/products": _MAKERS,
    "GET /v1/products/{key}": _PEOPLE,
    "GET /v1/outputs/{name:path}": _PEOPLE,
    "PUT /v1/outputs/{name:path}": _OPERATORS,
    "GET /v1/sandboxes/{sha256}": _MAKERS,
    "PUT /v1/sandboxes/{sha256}": _PEOPLE,
    # What is prepared where.
    "GET /v1/edges": _PEOPLE,
    "PUT /v1/edges/{edge}": _EDGES,
    "DELETE /v1/edges/{edge}": _OPERATORS,
    "POST /v1/edges/{edge}/beats": _EDGES,
    "POST /v1/edges/{edge}/state": _OPERATORS,
    "POST /v1/edges/{edge}/products": _EDGES,
    "GET /v1/edges/{edge}/products": _EDGES,
    "POST /v1/complaints": _COMPLAINING,
    "POST /v1/edges/{edge}/drops": _EDGES,
    "POST /v1/edges/{edge}/bad-replicas": _EDGES,
    "GET /v1/products/{key}/descriptor": _PLACES,
    "POST /v1/edges/{edge}/claims": _EDGES,
    "GET /v1/products/{key}/places": _PLACES,
    "GET /v1/sources/{digest}": _WORKERS,
    "GET /v1/sources/{digest}/index": _WORKERS,
    "POST /v1/product-searches": _PEOPLE,
    "POST /v1/readiness": _PEOPLE,
    "GET /v1/recipes": _PEOPLE,
    "POST /v1/wanted": _PLACES,
    "GET /v1/wanted": _PLACES,
    "POST /v1/replicas": _PEOPLE,
    "GET /v1/replicas": _PLACES,
    "POST /v1/replica-removals": _PEOPLE,
    # Deliveries.
    "POST /v1/plans": _MAKERS,
    "POST /v1/foreign-ranges": _MAKERS,
    "POST /v1/links": EVERYBODY,
    "GET /v1/links": _PLACES,
    "PUT /v1/sites/{site}": _OPERATORS,
    "DELETE /v1/sites/{site}": _OPERATORS,
    "GET /v1/sites": _PLACES,
    # Requests.
    "POST /v1/requests": _PEOPLE,
    "GET /v1/requests": _PEOPLE,
    "GET /v1/requests/{task}": _PEOPLE,
    "GET /v1/requests/{task}/events": _PEOPLE,
    "POST /v1/requests/{task}/cancel": _PEOPLE,
    # Events and notes.
    "POST /v1/event-lookups": _PEOPLE,
    "GET /v1/whiteboard/keys": _MAKERS,
    "PUT /v1/whiteboard/keys/{key}": _PEOPLE,
    "POST /v1/whiteboard/notes": _MAKERS,
    "POST /v1/whiteboard/removals": _PEOPLE,
    "POST /v1/whiteboard/reads": _MAKERS,
    "POST /v1/whiteboard/histories": _MAKERS,
    "POST /v1/whiteboard/searches": _MAKERS,
    "POST /v1/whiteboard/events": _MAKERS,
}


def guarded(routes: Iterable[Route]) -> list[Route]:
    """Return routes, each of which looks first whether the caller may.

    Raises
    ------
    KeyError
        A route has no line in `WHO_MAY`.
    """
    found = list(routes)
    for route in found:
        # Whoever may GET may ask for the head of the same thing.
        methods = sorted((route.methods or set()) - {"HEAD", "OPTIONS"})
        lines = {method: WHO_MAY[f"{method} {route.path}"] for method in methods}
        if "GET" in lines:
            lines["HEAD"] = lines["GET"]
        route.app = _Guard(route.app, lines, content=route.path in CONTENT)
    return found


@dataclass(frozen=True, slots=True)
class _Guard:
    app: ASGIApp
    lines: Mapping[str, Roles]
    content: bool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, if its caller may.

        Raises
        ------
        AccessError
        """
        # Methods that the route does not have it refuses itself, and says which it has.
        roles = self.lines.get(scope["method"])
        if roles is not None:
            self._check(scope, roles)
        await self.app(scope, receive, send)

    def _check(self, scope: Scope, roles: Roles) -> None:
        caller = caller_of(scope)
        if caller is SIGNED and self.content:
            return
        edge = scope["path_params"].get("edge")
        if caller.may(roles, None if edge is None else str(edge)):
            return
        reads = self.content and scope["method"] in ("GET", "HEAD")
        if reads and caller.may_read(scope["path"].removeprefix("/v1")):
            return
        what = f"{scope['method']} {scope['path']}"
        if edge is not None and "edge" in caller.roles:
            raise AccessError(f"{caller.name} speaks for the edge {caller.edge!r}: not {what}")
        raise AccessError(
            f"{caller.name} may not {what}",
            hint=f"it takes the role {' or '.join(sorted(roles))}",
        )
