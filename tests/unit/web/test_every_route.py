"""What all routes have in common: methods, media types, queries, keys, pages, problems."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest

from evstream.assembly import Application
from evstream.domain.errors import MediaTypeError
from tests.unit.web.test_api import DOOR, FILES, TASK, with_application

PROBLEM = "application/problem+json"


def with_api(work: Callable[[httpx2.AsyncClient], Awaitable[None]]) -> None:
    """Run some work against an API in memory that has one dataset."""

    async def ask(application: Application) -> None:
        # What fails within is answered as a server would.
        transport = httpx2.ASGITransport(application.app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(
            transport=transport, base_url="http://test", headers=DOOR
        ) as client:
            body = {"name": "user:x", "files": [{"pfn": next(iter(FILES))}]}
            assert (await client.post("/v1/datasets", json=body)).status_code == 201
            await work(client)

    with_application(ask, FILES)


def test_a_path_tells_all_its_methods() -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        refused = await client.delete("/v1/datasets")
        assert (refused.status_code, refused.headers["content-type"]) == (405, PROBLEM)
        told = await client.options("/v1/datasets")
        assert told.status_code == 204
        for answer in (refused, told):
            assert {"GET", "HEAD", "POST"} <= set(answer.headers["allow"].split(", "))

    with_api(work)


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("/v1/tasks?limt=3", "limt"),
        ("/v1/tasks?limit=0", "limit"),
        ("/v1/tasks?limit=two", "limit"),
        ("/v1/tasks?limit=1&limit=2", "twice"),
        ("/v1/health?a=1", "takes no query"),
        ("/v1/recipes", "dataset"),
    ],
)
def test_a_query_that_does_not_fit_is_refused(path: str, detail: str) -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        answer = await client.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (400, PROBLEM)
        assert detail in answer.json()["detail"]

    with_api(work)


def test_a_message_is_json_and_says_so_if_it_says_anything() -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        body = b'{"dataset": "user:x"}'
        for kind in ("application/json", "Application/JSON; charset=utf-8", None):
            headers = {} if kind is None else {"Content-Type": kind}
            assert (await client.post("/v1/slices", content=body, headers=headers)).is_success
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = await client.post("/v1/slices", content=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (415, MediaTypeError.code)

    with_api(work)


@pytest.mark.parametrize("key", ["", "a" * 201, "a b"])
def test_a_key_that_cannot_be_kept_is_refused(key: str) -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        answer = await client.post("/v1/tasks", json=TASK, headers={"Idempotency-Key": key})
        assert answer.status_code == 400
        assert "Idempotency-Key" in answer.json()["detail"]

    with_api(work)


def test_lists_come_in_pages() -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        for number in range(3):
            await client.post("/v1/tasks", json={**TASK, "name": f"t{number}"})
        first = (await client.get("/v1/tasks?limit=2")).json()
        assert [task["id"] for task in first["items"]] == [1, 2]
        rest = (await client.get(f"/v1/tasks?limit=2&after={first['next']}")).json()
        assert [task["id"] for task in rest["items"]] == [3]
        assert "next" not in rest
        whole = (await client.get("/v1/datasets?limit=1")).json()
        assert [line["name"] for line in whole["items"]] == ["user:x"]
        assert "next" not in whole
        assert (await client.get("/v1/datasets?after=user:x")).json() == {"items": []}

    with_api(work)


def test_what_nobody_foresaw_is_a_problem_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(dataset: Any) -> None:
        raise ZeroDivisionError("at the secret /path")

    async def work(client: httpx2.AsyncClient) -> None:
        monkeypatch.setattr("evstream.web.catalogue_routes.dataset_view", fail)
        answer = await client.get("/v1/datasets/user:x")
        assert (answer.status_code, answer.headers["content-type"]) == (500, PROBLEM)
        assert answer.json()["code"] == "internal_error"
        assert "secret" not in answer.text

    with_api(work)
