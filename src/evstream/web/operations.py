"""What the API can be asked: each route declared once, served and described from that.

A route module declares its operations, and says which function answers which:

    SUBMIT = Operation("POST", "/v1/tasks", "create a task", takes=NewTask, gives=TaskView, ...)

    def task_routes(services):
        async def submit(request): ...
        return [SUBMIT.by(submit)]

`routes_of` makes Starlette's routes of them, `evstream.web.openapi` the OpenAPI document.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from evstream.domain.errors import MediaTypeError, RequestError

Handler = Callable[[Request], Awaitable[Response]]

JSON = "application/json"
EVENT_STREAM = "text/event-stream"
KEY = r"^[!-~]{1,200}$"
"""An Idempotency-Key: printable ASCII, since it stands in a header."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path: what it takes, what it gives, how it may refuse.

    Attributes
    ----------
    path : str
        As Starlette has it: ``{task}``, or ``{name:path}`` where slashes may be in it.
    summary : str
        What it does, as the overview of the API's page has it.
    takes : type or None
        Message of the body, for `read`; `bytes` for content of any kind.
    gives : type or None
        Message of the answer; `bytes` for content, which is served in ranges; `str` for text.
    query : type or None
        Message of the query, for `query_of`; without one, any query is refused.
    status : int
        Of success.
    elsewhere : bool
        It may be answered with 307, and ``Location`` says where to ask instead.
    errors : tuple of int
        Statuses beyond those that any such operation may answer (400, 403, 503; 413 and
        415 with a body).
    key : str
        Pattern of the Idempotency-Key that a POST may bring.
    signed : bool
        A signed URL is enough, and further parameters in the query do not matter.
    media_type : str
        Of text.
    events : tuple of str
        Names of server-sent events, by which it answers; each has the message as its data.
    also : tuple of str
        Media types in which the answer comes to whoever accepts them.
    open : bool
        It is answered without credentials, before the door.
    """

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    summary: str
    takes: Any = None
    gives: Any = None
    query: Any = None
    status: int = 200
    elsewhere: bool = False
    errors: tuple[int, ...] = ()
    key: str = KEY
    signed: bool = False
    media_type: str = "text/plain"
    events: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    open: bool = False

    def by(self, handler: Handler) -> Served:
        """Return the operation with the function that answers it."""
        return Served(self, handler)

    def check(self, request: Request) -> None:
        """Refuse what the operation does not take, before its handler sees it.

        Raises
        ------
        RequestError
        """
        # Not by `request.url`, which puts together all that a URL may have.
        if self.query is None and request.scope["query_string"]:
            raise RequestError(
                f"{self.method} {request.scope['path'][:200]} takes no query",
                hint="leave out what stands after the question mark",
            )
        if self.takes not in (None, bytes):
            sent = request.headers.get("Content-Type", JSON)
            # Most say it plainly.
            if sent != JSON and (sent := sent.partition(";")[0].strip().lower()) != JSON:
                raise MediaTypeError(f"the body is {sent[:80]!r}", hint=f"send {JSON}")
        key = request.headers.get("Idempotency-Key") if self.method == "POST" else None
        if key is not None and not matches(self.key, key):
            raise RequestError(
                f"{key[:200]!r} cannot be the Idempotency-Key here",
                hint=f"send one that matches {self.key}",
            )


@cache
def _pattern(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern[1:-1])


def matches(pattern: str, text: str) -> bool:
    """Whether a text is, as a whole, as a pattern with ^ and $ says."""
    return _pattern(pattern).fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Served:
    """An operation, and the function that answers it or raises what it refuses."""

    operation: Operation
    handler: Handler


class Resource:
    """A path with its operations, one for each method: an ASGI application.

    Attributes
    ----------
    served : dict of str to Served
        By method.
    """

    def __init__(self, served: Sequence[Served]) -> None:
        self.path = served[0].operation.path
        self.served: dict[str, Served] = {one.operation.method: one for one in served}
        assert len(self.served) == len(served), f"{self.path}: a method is there twice"
        methods = {*self.served} | ({"HEAD"} if "GET" in self.served else set())
        self._allowed = {"Allow": ", ".join(sorted({*methods, "OPTIONS"}))}

    async def answer(self, request: Request) -> Response:
        """Answer a request for this path."""
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=self._allowed)
        method = "GET" if request.method == "HEAD" else request.method
        served = self.served[method]
        served.operation.check(request)
        request.scope["operation"] = served.operation
        return await served.handler(request)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; what it is refused with is raised."""
        response = await self.answer(Request(scope, receive, send))
        await response(scope, receive, send)

    def route(self) -> Route:
        """Return Starlette's route; other methods than ours it refuses, naming these."""
        return Route(self.path, self, methods=[*self.served, "OPTIONS"])


def routes_of(served: Sequence[Served]) -> list[Route]:
    """Return a route for each path, in the order in which the paths come first."""
    paths: dict[str, list[Served]] = {}
    for one in served:
        paths.setdefault(one.operation.path, []).append(one)
    return [Resource(there).route() for there in paths.values()]


def operations_of(routes: Sequence[Any]) -> list[Operation]:
    """Return the operations behind routes.

    Raises
    ------
    TypeError
        A route was not made of operations.
    """
    found: list[Operation] = []
    for route in routes:
        resource = getattr(route, "endpoint", None)
        if not isinstance(resource, Resource):
            raise TypeError(
                f"{getattr(route, 'path', route)} is not declared: let its module return "
                " Operation.by in place of a Route (see evstream/web/operations.py)"
            )
        found += [one.operation for one in resource.served.values()]
    return found
