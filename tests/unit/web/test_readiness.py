"""Readiness: who may ask, what is tried, what it says of what cannot be used."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx2
import pytest
from starlette.types import Receive, Scope, Send

from evstream.assembly import open_embedded
from evstream.settings import Settings
from evstream.testing.manual_clock import ManualClock
from evstream.web.readiness import BELIEVED_S, Readiness, ReadinessDoor

Ask = Callable[..., Awaitable[httpx2.Response]]


async def nobody(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("it was passed on")


def client_of(app: object) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app)  # type: ignore[arg-type]
    return httpx2.AsyncClient(transport=transport, base_url="http://x")


def test_a_service_says_without_credentials_that_it_is_ready(tmp_path: Path) -> None:
    async def main() -> None:
        settings = Settings(data_dir=str(tmp_path))
        async with (
            open_embedded(settings, token="secret") as application,
            client_of(application.app) as client,
        ):
            answer = await client.get("/v1/ready")
            assert answer.status_code == 200
            assert answer.json() == {"parts": ["database", "store"]}
            assert answer.headers["cache-control"] == "no-store"
            assert (await client.head("/v1/ready")).status_code == 200
            # What else there is stays behind the door.
            assert (await client.get("/v1/tasks")).status_code == 401
            assert (await client.post("/v1/ready")).status_code == 401

    asyncio.run(main())
    assert not any((tmp_path / "outputs" / "ready").iterdir())


def test_what_cannot_be_used_is_named_and_told_once_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken = {"now": True}
    tried = []

    async def works() -> None:
        tried.append("works")

    async def fails() -> None:
        if broken["now"]:
            raise OSError("No space left on device")

    async def main() -> None:
        clock = ManualClock()
        readiness = Readiness({"database": works, "store": fails}, clock)
        door = ReadinessDoor(nobody, lambda: readiness)
        async with client_of(door) as client:
            for _ in range(3):
                answer = await client.get("/v1/ready")
                assert answer.status_code == 503
                assert "not ready: store cannot be used" in answer.json()["detail"]
                # Reasons are for operators.
                assert "space" not in answer.text
            assert tried == ["works"]
            clock.advance(BELIEVED_S)
            assert (await client.get("/v1/ready")).status_code == 503
            broken["now"] = False
            assert (await client.get("/v1/ready")).status_code == 503
            clock.advance(BELIEVED_S)
            assert (await client.get("/v1/ready")).status_code == 200
        assert len(tried) == 3

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert caplog.messages == [
        "not ready: store cannot be used: No space left on device",
        "ready again",
    ]
