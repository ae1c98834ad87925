"""Each route knows who may; keys open it, and edges keep to themselves."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import Mock

import pytest
from starlette.responses import Response
from starlette.routing import Match, Route

from evstream.adapters.catalogue.memory_access_keys import MemoryAccessKeys
from evstream.domain.access import OWNER, ROLES, Caller, digest_of, key_text
from evstream.domain.errors import AccessError, CredentialsError, NotFoundError, RequestError
from evstream.head.access import KEY_KNOWN_S, Access
from evstream.testing.contracts.suite import Suite
from evstream.testing.manual_clock import ManualClock
from evstream.web import make_app
from evstream.web.doors import SIGNED, SIGNED_PREFIXES
from evstream.web.operations import operations_of
from evstream.web.who_may import CONTENT, WHO_MAY, guarded
from evstream.wire.access_messages import NewAccessKey
from evstream.wire.signed_urls import DerivedKeys, UrlSigner

KEY = "aaaaaaaa1"


def lines() -> list[str]:
    nothing: Any = Mock(redirects=False)
    app = make_app(nothing, nothing, UrlSigner(DerivedKeys(b"x" * 32)), nothing)
    return [f"{one.method} {one.path}" for one in operations_of(app.routes)]


def test_every_route_has_a_line_and_every_line_a_route() -> None:
    assert sorted(lines()) == sorted(WHO_MAY)
    assert all(roles <= set(ROLES) for roles in WHO_MAY.values())


def test_no_route_is_made_without_its_line() -> None:
    async def endpoint(request: Any) -> Any:
        raise AssertionError

    with pytest.raises(KeyError, match="GET /v1/secrets"):
        guarded([Route("/v1/secrets", endpoint)])


def test_signed_urls_lead_to_content_alone() -> None:
    assert {re.sub(r"\{.*", "", path) for path in CONTENT} == set(SIGNED_PREFIXES)
    nothing: Any = Mock(redirects=False)
    app = make_app(nothing, nothing, UrlSigner(DerivedKeys(b"x" * 32)), nothing)
    assert {one.path for one in operations_of(app.routes) if one.signed} == set(CONTENT)


async def answer(caller: Caller, method: str, path: str) -> int:
    """Return whether a caller may (200), may not (403), or nothing is there (404)."""
    reached = []

    async def endpoint(request: Any) -> Any:
        reached.append(request)
        return Response()

    routes = guarded(
        Route(line.partition(" ")[2], endpoint, methods=[line.partition(" ")[0]])
        for line in WHO_MAY
    )
    for route in routes:
        scope: dict[str, Any] = {"type": "http", "method": method, "path": path, "headers": []}
        match, more = route.matches(scope)
        if match is not Match.FULL:
            continue
        scope.update(more)
        scope["evstream.caller"] = caller
        sent = []

        async def send(message: Any, sent: list[Any] = sent) -> None:
            sent.append(message)

        async def receive() -> Any:
            raise AssertionError

        try:
            await route.app(scope, receive, send)
        except AccessError:
            assert not reached
            return 403
        return int(sent[0]["status"])
    return 404


def caller(role: str, edge: str = "") -> Caller:
    return Caller("somebody", frozenset({role}), edge)


class TestGuards(Suite):
    @pytest.mark.parametrize(
        ("role", "method", "path", "status"),
        [
            ("pilot", "POST", "/v1/claims", 200),
            ("pilot", "POST", "/v1/tasks", 403),
            ("pilot", "GET", "/v1/tasks/1", 403),
            ("pilot", "PUT", "/v1/outputs/tasks/1/x", 403),
            ("pilot", "PUT", "/v1/keys/aaaaaaaa", 403),
            ("submitter", "POST", "/v1/tasks", 200),
            ("submitter", "POST", "/v1/claims", 403),
            ("submitter", "POST", "/v1/reports", 403),
            ("submitter", "GET", "/metrics", 403),
            ("submitter", "HEAD", "/v1/outputs/tasks/1/x", 200),
            ("edge", "POST", "/v1/claims", 403),
            ("edge", "POST", "/v1/tasks", 403),
            ("edge", "PUT", "/v1/edges/lyon-1", 200),
            ("edge", "PUT", "/v1/edges/lyon-2", 403),
            ("edge", "POST", "/v1/edges/lyon-2/products", 403),
            ("edge", "DELETE", "/v1/edges/lyon-1", 403),
            ("operator", "PUT", "/v1/edges/lyon-2", 200),
            ("operator", "GET", "/v1/keys", 200),
            (OWNER, "GET", "/v1/keys", 200),
        ],
    )
    async def test_a_role_may_what_its_line_says(
        self, anyio_backend: str, role: str, method: str, path: str, status: int
    ) -> None:
        edge = "lyon-1" if role == "edge" else ""
        assert await answer(caller(role, edge), method, path) == status

    async def test_an_edge_does_nothing_in_anothers_name(self, anyio_backend: str) -> None:
        lines = [line.split() for line in WHO_MAY if "{edge}" in line]
        assert ["POST", "/v1/edges/{edge}/claims"] in lines
        for method, path in lines:
            there = path.replace("{edge}", "lyon-2")
            assert await answer(caller("edge", "lyon-1"), method, there) == 403, (method, path)
            if "edge" in WHO_MAY[f"{method} {path}"]:
                assert await answer(caller("edge", "lyon-2"), method, there) == 200

    async def test_a_token_reads_below_its_paths(self, anyio_backend: str) -> None:
        reader = Caller("r", frozenset(), readable=("/outputs/tasks/1",))
        assert await answer(reader, "GET", "/v1/outputs/tasks/1/output/x") == 200
        assert await answer(reader, "GET", "/v1/outputs/tasks/10/output/x") == 403
        assert await answer(reader, "GET", "/v1/outputs/tasks/1/../2/x") == 403
        assert await answer(reader, "PUT", "/v1/outputs/tasks/1/output/x") == 403
        assert await answer(reader, "GET", "/v1/tasks") == 403
        every = Caller("r", frozenset(), readable=("/",))
        assert await answer(every, "GET", "/v1/products/" + "0" * 64) == 200
        assert await answer(every, "GET", "/v1/tasks") == 403

    async def test_a_signed_url_is_no_way_to_anything_else(self, anyio_backend: str) -> None:
        assert await answer(SIGNED, "GET", "/v1/products/" + "0" * 64) == 200
        assert await answer(SIGNED, "GET", "/v1/products/x/places") == 403
        assert await answer(SIGNED, "GET", "/v1/tasks") == 403


class TestAccess(Suite):
    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    def keys(self, clock: ManualClock) -> MemoryAccessKeys:
        return MemoryAccessKeys(clock)

    async def _made(self, access: Access) -> str:
        await access.add_key(KEY, NewAccessKey("pilot", "Lyon", digest_of("secret")))
        return key_text(KEY, "secret")

    async def test_whoever_shows_nothing_good_is_refused(
        self, anyio_backend: str, keys: MemoryAccessKeys, clock: ManualClock
    ) -> None:
        access = Access("token", keys, clock)
        text = await self._made(access)
        for shown in ("", "tok", "token ", text[:-1], text + "x", "evs_bbbbbbbb_x", "a.b.c", "é"):
            with pytest.raises(CredentialsError):
                await access.who(shown)
        assert (await access.who("token")).roles == {OWNER}
        assert (await access.who(text)).roles == {"pilot"}

    async def test_a_revoked_key_ends_within_seconds_elsewhere(
        self, anyio_backend: str, keys: MemoryAccessKeys, clock: ManualClock
    ) -> None:
        here, there = Access("t", keys, clock), Access("u", keys, clock)
        text = await self._made(here)
        assert (await there.who(text)).name == "Lyon"
        assert (await here.who(text)).name == "Lyon"
        await here.revoke_key(KEY)
        with pytest.raises(CredentialsError):
            await here.who(text)
        clock.advance(KEY_KNOWN_S)
        with pytest.raises(CredentialsError):
            await there.who(text)

    async def test_a_key_expires_though_it_is_remembered(
        self, anyio_backend: str, keys: MemoryAccessKeys, clock: ManualClock
    ) -> None:
        access = Access("t", keys, clock)
        expires = clock.now() + timedelta(seconds=1)
        await access.add_key(KEY, NewAccessKey("pilot", "a", digest_of("s"), expires=expires))
        await access.who(key_text(KEY, "s"))
        clock.advance(1)
        with pytest.raises(CredentialsError):
            await access.who(key_text(KEY, "s"))

    async def test_uses_are_noted_but_not_each(
        self, anyio_backend: str, keys: MemoryAccessKeys, clock: ManualClock
    ) -> None:
        access = Access("t", keys, clock)
        text = await self._made(access)
        first = clock.now()
        for _ in range(3):
            await access.who(text)
            clock.advance(10)
        (kept,) = await access.keys()
        assert kept.last_used == first
        clock.advance(60)
        await access.who(text)
        (kept,) = await access.keys()
        assert kept.last_used == clock.now()

    async def test_bad_keys_are_refused(
        self, anyio_backend: str, keys: MemoryAccessKeys, clock: ManualClock
    ) -> None:
        access = Access("t", keys, clock)
        past = datetime(2000, 1, 1, tzinfo=UTC)
        with pytest.raises(RequestError):
            await access.add_key(KEY, NewAccessKey("pilot", "a", digest_of("s"), expires=past))
        with pytest.raises(NotFoundError):
            await access.revoke_key(KEY)
        with pytest.raises(RequestError):
            await Access("t", None, clock).keys()

    async def test_what_is_remembered_is_bounded(
        self,
        anyio_backend: str,
        keys: MemoryAccessKeys,
        clock: ManualClock,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("evstream.head.access.KEYS_KNOWN_MAX", 3)
        access = Access("t", keys, clock)
        for number in range(10):
            with pytest.raises(CredentialsError):
                await access.who(f"evs_{number:08}_x")
        assert len(access._known) == 3
