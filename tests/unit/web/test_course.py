"""The course of a task is changed: paused, given up, cancelled, retried, repeated requests."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from evstream.adapters.catalogue.memory import MemoryLedger
from evstream.domain.ledger import CANCELLED
from evstream.domain.names import TaskId
from evstream.domain.task import merge_book
from evstream.head.poisoned import FAILURES_MAX
from evstream.settings import Settings
from evstream.testing.virtual_time import VirtualClock
from tests.unit.web.test_api import DOOR, PFN, TASK, _with_api

Reply = dict[str, Any]


async def _post(
    client: httpx2.AsyncClient, path: str, body: Any = None, status: int = 200, key: str = ""
) -> Reply:
    headers = {**DOOR, "Idempotency-Key": key} if key else DOOR
    response = await client.post(f"/v1/{path}", json=body, headers=headers)
    assert response.status_code == status, response.text
    reply: Reply = response.json()
    return reply


async def _submit(client: httpx2.AsyncClient, limits: Reply) -> None:
    task = {**TASK, "granularity": {"events": 50}, "limits": limits}
    await _post(client, "tasks", task, 201)


async def _claim(client: httpx2.AsyncClient, units: int = 1) -> Reply:
    return await _post(client, "claims", {"worker": "w", "units": units})


async def _fail(client: httpx2.AsyncClient, times: int) -> None:
    failure = {"kind": "payload", "error": "exit 1"}
    for _ in range(times):
        claim = await _claim(client)
        report = {"lease": claim["lease"], "worker": "w", "ref": claim["units"][0]["ref"]}
        await _post(client, "reports", {"reports": [{**report, "failure": failure}]})
    await VirtualClock().sleep(1.0)


async def _task(client: httpx2.AsyncClient) -> Reply:
    reply: Reply = (await client.get("/v1/tasks/1", headers=DOOR)).json()
    return reply


def test_nothing_of_a_paused_task_is_handed_out_and_what_runs_is_accepted() -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        await _submit(client, {})
        claim = await _claim(client)
        assert (await _post(client, "tasks/1/pause"))["state"] == "paused"
        idle = await _claim(client)
        assert (idle.get("units", []), idle["active_tasks"]) == ([], 1)
        report = {"lease": claim["lease"], "worker": "w", "ref": claim["units"][0]["ref"]}
        failure = {"kind": "payload", "error": "exit 1"}
        answer = await _post(client, "reports", {"reports": [{**report, "failure": failure}]})
        assert answer == {"answers": ["accepted"]}
        assert (await _post(client, "tasks/1/resume"))["state"] == "running"
        assert len((await _claim(client))["units"]) == 1
        await _post(client, "tasks/1/pause")
        assert (await _post(client, "tasks/1/cancel"))["state"] == "aborted"
        await _post(client, "tasks/1/pause", status=409)
        await _post(client, "tasks/1/resume", status=409)

    _with_api(work)


def test_what_a_task_gave_up_is_retried_with_fresh_counts() -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        await _submit(client, {"give_up_after": 3})
        await _fail(client, 3)
        view = await _task(client)
        assert view["state"] == "failed"
        assert view["reason"].startswith("given up: 3 attempts failed and not one was committed")
        receipt = (await client.get("/v1/tasks/1/receipt", headers=DOOR)).json()
        assert receipt["counts"]["cancelled"] == 100
        view = await _post(client, "tasks/1/retry", {"failed_only": True}, key="once")
        assert (view["state"], view["taken_back"]["redone"]) == ("running", 100)
        assert view["process"].get("own_failures", 0) == 0
        again = await _post(client, "tasks/1/retry", {"failed_only": True}, key="once")
        assert again["taken_back"] == view["taken_back"], "a repeat gets the same answer"
        await _post(client, "tasks/1/retry", {"failed_only": True}, 409)
        gone = await client.get("/v1/tasks/1/receipt", headers=DOOR)
        assert gone.status_code == 404
        assert len((await _claim(client, 9))["units"]) == 2

    _with_api(work)


def test_what_somebody_cancelled_is_retried_only_if_asked() -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        await _submit(client, {})
        await _post(client, "tasks/1/cancel")
        await _post(client, "tasks/1/retry", {"failed_only": True}, 409)
        view = await _post(client, "tasks/1/retry", {})
        assert (view["state"], view["taken_back"]["redone"]) == ("running", 100)

    _with_api(work)


def test_entries_are_told_by_what_became_of_them() -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        await _submit(client, {"failures_max": 1, "bisections_max": 0, "give_up_after": 99})
        await _fail(client, 1)
        entries = (await client.get("/v1/tasks/1/entries", headers=DOOR)).json()["items"]
        assert entries == [{"lfn": PFN, "wanted": [[0, 100]], "set_aside": [[0, 50, "exit 1"]]}]
        await _post(client, "tasks/1/withdraw", {"file": "other.root"}, 404)
        view = await _post(client, "tasks/1/withdraw", {"file": PFN})
        assert view["taken_back"]["withdrawn"] == 100
        await VirtualClock().sleep(1.0)
        view = await _task(client)
        assert (view["state"], view["reason"]) == ("aborted", "every input was withdrawn")
        entries = (await client.get("/v1/tasks/1/entries", headers=DOOR)).json()["items"]
        assert entries[0]["withdrawn"] == [[0, 100]]

    _with_api(work)


async def _work_off(client: httpx2.AsyncClient) -> int:
    """Do all that is handed out at once; return how many units that was."""
    claim = await _claim(client, 99)
    reports = []
    for unit in claim.get("units", []):
        slot = unit["outputs"][0] if unit["type"] == "range" else unit["output"]
        stored = (await client.put(slot["url"], content=b"x", headers=DOOR)).json()
        output = {"stream": "output", "entries": {}, **stored}
        report = {"lease": claim["lease"], "worker": "w", "ref": unit["ref"]}
        reports.append({**report, "success": {"outputs": [output]}})
    if reports:
        answer = await _post(client, "reports", {"reports": reports})
        assert answer == {"answers": ["accepted"] * len(reports)}
    return len(reports)


def test_a_task_is_cancelled_at_once_whatever_is_reported_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cancel_book, units = MemoryLedger.cancel_book, []

    async def work(client: httpx2.AsyncClient) -> None:
        async def while_a_pilot_works(
            ledger: MemoryLedger, book: int, reason: str = CANCELLED
        ) -> None:
            if book == merge_book(TaskId(1)) and len(units) < 2:
                units.append(await _work_off(client))
            await cancel_book(ledger, book, reason)

        task = {**TASK, "granularity": {"events": 10}, "outputs": [{"merge": True}]}
        await _post(client, "tasks", task, 201)
        assert await _work_off(client) == 10
        await VirtualClock().sleep(1.0)
        assert (await _task(client))["state"] == "merging"
        monkeypatch.setattr(MemoryLedger, "cancel_book", while_a_pilot_works)
        view = await _post(client, "tasks/1/cancel")
        assert units == [5, 3], "two levels were merged while it was cancelled"
        assert (view["state"], view["merge"]["cancelled"]) == ("aborted", 2)
        await _post(client, "tasks/1/cancel")
        await _post(client, "tasks/1/retry", {})

    _with_api(work, settings=Settings(merge_inputs_max=2))


@pytest.mark.parametrize("rule", [{"by": "all"}, {"by": "file"}, {"by": "events", "target": 60}])
def test_a_task_is_cancelled_between_levels_of_merges(rule: Reply) -> None:
    """All its events are done, and all outputs are in merges; these are not joined yet."""

    async def work(client: httpx2.AsyncClient) -> None:
        task = {**TASK, "granularity": {"events": 10}, "outputs": [{"merge": rule}]}
        await _post(client, "tasks", task, 201)
        assert await _work_off(client) == 10
        await VirtualClock().sleep(1.0)
        assert await _work_off(client) == 5
        view = await _post(client, "tasks/1/cancel")
        assert (view["state"], view["reason"]) == ("aborted", "cancelled while merging")

    _with_api(work, settings=Settings(merge_inputs_max=2))


async def _refuse(client: httpx2.AsyncClient, worker: str) -> str:
    """Have a node fail a unit; return the task's state and why."""
    claim = await _post(client, "claims", {"worker": worker, "units": 1})
    report = {"lease": claim["lease"], "worker": worker, "ref": claim["units"][0]["ref"]}
    failure = {"kind": "node", "error": "access denied"}
    answer = await _post(client, "reports", {"reports": [{**report, "failure": failure}]})
    assert answer == {"answers": ["accepted"]}
    view = await _task(client)
    return " ".join([view["state"], view.get("reason", "")]).strip()


def test_a_task_that_no_node_can_go_on_with_pauses_and_says_why() -> None:
    why = f"3 attempts on entries 0:50 of {PFN} failed by their nodes: access denied"

    async def work(client: httpx2.AsyncClient) -> None:
        await _submit(client, {"node_failures_max": 3})
        told = [await _refuse(client, "only") for _ in range(3)]
        assert told == ["running", "running", f"paused {why}"]
        assert (await _claim(client)).get("units", []) == []
        view = await _post(client, "tasks/1/resume")
        assert (view["state"], view.get("reason", "")) == ("running", "")
        told = [await _refuse(client, "only") for _ in range(3)]
        assert told[:2] == ["running", "running"], "it is tried as often again"
        assert told[2].startswith("paused 6 attempts")
        assert (await _task(client))["process"].get("fatal", 0) == 0

    _with_api(work)


def test_a_report_tells_of_what_was_lost_with_its_worker() -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        await _submit(client, {})
        claim = await _post(client, "claims", {"worker": "w", "units": 2})
        ref = claim["units"][0]["ref"]
        place = {name: ref[name] for name in ("book", "chunk", "entry_start", "entry_stop")}
        renewal = {"worker": "w", "running": [{**place, "cpu_s": 4.0}]}
        await _post(client, f"leases/{claim['lease']}/renew", renewal)
        await _post(client, "workers/w/lost")
        told = (await client.get("/v1/tasks/1/report", headers=DOOR)).json()["ranges"]
        # One had begun; the other goes out again as if nothing had been.
        assert [(one["started"], one["failed"], one["lost_cpu_s"]) for one in told] == [(1, 1, 4.0)]

    _with_api(work)


def test_a_task_that_no_node_can_begin_pauses_whatever_its_ranges() -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        await _submit(client, {"node_failures_max": 100})
        # One worker alone may be on a bad node.
        told = {await _refuse(client, "one") for _ in range(3 * FAILURES_MAX)}
        assert told == {"running"}
        *told, last = [await _refuse(client, "two") for _ in range(FAILURES_MAX)]
        assert set(told) == {"running"}
        assert last == "paused on 2 workers each unit failed by its node: access denied"
        await _post(client, "tasks/1/resume")
        assert await _refuse(client, "two") == "running", "it has its chances again"

    _with_api(work)


def test_a_task_that_somebody_else_works_on_goes_on() -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        await _submit(client, {"node_failures_max": 100})
        await _post(client, "claims", {"worker": "good", "units": 1})
        for worker in ("one", "two"):
            told = {await _refuse(client, worker) for _ in range(2 * FAILURES_MAX)}
            assert told == {"running"}

    _with_api(work)


def test_one_bad_node_among_good_ones_pauses_no_task() -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        await _submit(client, {"node_failures_max": 2})
        await _post(client, "claims", {"worker": "good", "units": 1})
        assert [await _refuse(client, "bad") for _ in range(3)] == ["running"] * 3
        assert (await _refuse(client, "other")).startswith("paused 4 attempts")

    _with_api(work)
