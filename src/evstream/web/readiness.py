"""Readiness: whether a service can do its work now, told to whoever sends it requests.

It is answered before the door: load balancers have no credentials, and it tells no more than
they need. Why something cannot be used is in the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from evstream.domain.errors import TransientError
from evstream.ports import Clock
from evstream.web.replies import problem_reply, reply
from evstream.wire.readiness import Ready

PATH = "/v1/ready"
BELIEVED_S = 2.0
"""So long a finding is told again: who asks often costs nothing."""
CHECK_S_MAX = 5.0

_LOG = logging.getLogger(__name__)

Check = Callable[[], Awaitable[object]]
"""Uses something as the service does; raises what keeps it from being used."""


class Readiness:
    """Whether the parts that a service stands on can be used.

    Parameters
    ----------
    checks : mapping of str to callable
        By the name of what they use.
    """

    def __init__(self, checks: Mapping[str, Check], clock: Clock) -> None:
        self._checks = checks
        self._clock = clock
        self._turn = asyncio.Lock()
        self._unusable: list[str] | None = None
        self._until = 0.0

    async def answer(self) -> Response:
        """Return what `GET /v1/ready` answers."""
        async with self._turn:
            if self._unusable is None or self._clock.monotonic() >= self._until:
                self._unusable = await self._look(self._unusable)
                self._until = self._clock.monotonic() + BELIEVED_S
            unusable = self._unusable
        if unusable:
            answer = problem_reply(
                TransientError(
                    f"not ready: {', '.join(unusable)} cannot be used",
                    hint="the service's log says why",
                )
            )
        else:
            answer = reply(Ready(list(self._checks)))
        answer.headers["Cache-Control"] = "no-store"
        return answer

    async def _look(self, before: list[str] | None) -> list[str]:
        found = await asyncio.gather(*(self._try(check) for check in self._checks.values()))
        problems = {
            name: problem
            for name, problem in zip(self._checks, found, strict=True)
            if problem is not None
        }
        if list(problems) != (before or []):
            for name, problem in problems.items():
                _LOG.warning(
                    "not ready: %s cannot be used: %s", name, problem, extra={"part": name}
                )
            if not problems:
                _LOG.warning("ready again")
        return list(problems)

    async def _try(self, check: Check) -> Exception | None:
        try:
            async with asyncio.timeout(CHECK_S_MAX):
                await check()
        except TimeoutError:
            return TimeoutError(f"no answer within {CHECK_S_MAX:.0f} s")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
            return error
        return None


class ReadinessDoor:
    """ASGI middleware that answers ``GET /v1/ready`` and passes on all else.

    Parameters
    ----------
    find : callable
        Returns what answers.
    """

    def __init__(self, app: ASGIApp, find: Callable[[], Readiness]) -> None:
        self._app = app
        self._find = find

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass a request on."""
        if (
            scope["type"] == "http"
            and scope["path"] == PATH
            and scope["method"] in ("GET", "HEAD")
            and not scope["query_string"]
        ):
            answer = await self._find().answer()
            await answer(scope, receive, send)
        else:
            await self._app(scope, receive, send)
