"""Which task's work a claim gets: priorities, shares of queues, parts near the end."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from evstream.settings import Settings
from evstream.testing.virtual_time import VirtualClock
from tests.unit.web.test_api import DOOR, TASK, _with_api

Reply = dict[str, Any]
EVENTS = 100
"""Of the dataset."""


async def post(client: httpx2.AsyncClient, path: str, body: Reply, status: int = 200) -> Reply:
    response = await client.post(f"/v1/{path}", json=body, headers=DOOR)
    assert response.status_code == status, response.text
    reply: Reply = response.json()
    return reply


async def submit(client: httpx2.AsyncClient, events: int = 1, **scheduling: Any) -> int:
    task = {**TASK, "granularity": {"events": events}, "scheduling": scheduling}
    return int((await post(client, "tasks", task, 201))["id"])


async def claim(client: httpx2.AsyncClient, units: int, worker: str = "w") -> list[int]:
    """Return the tasks that the units of a claim belong to."""
    answer = await post(client, "claims", {"worker": worker, "units": units})
    return [unit["task"] for unit in answer.get("units", [])]


def test_the_highest_priority_is_worked_off_first() -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        low, high = await submit(client), await submit(client, priority=5)
        assert await claim(client, 2) == [high, high]
        view = await post(client, f"tasks/{low}/schedule", {"priority": 9})
        assert view["spec"]["scheduling"] == {"queue": "default", "priority": 9}
        assert await claim(client, 2) == [low, low]
        # What the first cannot give, the next one does.
        assert await claim(client, EVENTS) == [low] * (EVENTS - 2) + [high] * 2

    _with_api(work)


def test_time_sliced_tasks_have_priorities_too() -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        await submit(client)
        sliced = {**TASK, "granularity": {"seconds": 10.0}, "scheduling": {"priority": 5}}
        number = (await post(client, "tasks", sliced, 201))["id"]
        assert set(await claim(client, 1)) == {number}

    _with_api(work)


def test_queues_share_the_workers() -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        production = await submit(client, queue="production")
        analysis = await submit(client, queue="analysis")
        got = [task for _ in range(40) for task in await claim(client, 1)]
        assert (got.count(production), got.count(analysis)) == (30, 10)

    _with_api(work, settings=Settings(queue_shares="production=3 analysis=1"))


def test_near_the_end_each_worker_gets_its_part() -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        await submit(client, events=5)
        assert len(await claim(client, 8, "a")) == 8
        # Twelve units are left, and two workers want sixteen; then six, three, two.
        given = [len(await claim(client, 8, worker)) for worker in "baba"]
        assert given == [6, 3, 1, 1]
        # Whoever has not asked for long does not count, and has lost what was leased.
        await VirtualClock().sleep(61.0)
        assert len(await claim(client, 20, "c")) == 20

    _with_api(work)


@pytest.mark.parametrize(
    "scheduling", [{"queue": "a b"}, {"queue": ""}, {"priority": 10_000_000}, {"rank": 1}]
)
def test_what_cannot_be_scheduled_is_refused(scheduling: Reply) -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        await post(client, "tasks", {**TASK, "scheduling": scheduling}, 400)
        task = await submit(client)
        await post(client, f"tasks/{task}/schedule", scheduling, 400)
        await post(client, f"tasks/{task}/cancel", {})
        await post(client, f"tasks/{task}/schedule", {"priority": 1}, 409)

    _with_api(work)
