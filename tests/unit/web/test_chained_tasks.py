"""Chained tasks from outside, in-process: what they are told, and what they tell."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Sequence
from typing import Any

import httpx2
import msgspec
import pytest

from evstream.adapters.storage.memory import MemoryStore
from evstream.cli.status import _stands
from evstream.cli.submit import _parent
from evstream.domain.chains import FILES_PER_PARENT_MAX
from evstream.domain.errors import RequestError
from evstream.testing.simulator import sample_files
from evstream.testing.virtual_time import VirtualClock
from evstream.wire.messages import TaskView
from tests.unit.web.test_api import DOOR, FILES, PFN, TASK, Work, _with_api

Reply = dict[str, Any]
TREE = sample_files(files=1, entries=50)["sample-0.root"]


def _with_chains(work: Work, store: MemoryStore | None = None, *, redirects: bool = False) -> None:
    """Run some work against an API in memory that can read what its tasks leave."""
    store = store or MemoryStore()
    # The dataset's file comes first; what is put into the store can be opened as well.
    _with_api(work, ChainMap(FILES, store.contents), store=store, redirects=redirects)


async def _get(client: httpx2.AsyncClient, path: str) -> Any:
    return (await client.get(f"/v1/{path}", headers=DOOR)).json()


async def _post(client: httpx2.AsyncClient, path: str, body: Any = None, status: int = 200) -> Any:
    response = await client.post(f"/v1/{path}", json=body, headers=DOOR)
    assert response.status_code == status, response.text
    return response.json()


async def _submit(client: httpx2.AsyncClient, *parents: int, **more: Any) -> int:
    """Submit a task on the dataset, or on what others leave; return its number."""
    body = {**TASK, "granularity": {"events": 50}, **more}
    if parents:
        body |= {"dataset": "", "takes": [{"task": parent} for parent in parents]}
    number: int = (await _post(client, "tasks", body, 201))["id"]
    return number


async def _claim(client: httpx2.AsyncClient, task: int, units: int = 1) -> list[Reply]:
    """Claim units of a task; each holds its lease too."""
    await VirtualClock().sleep(1.0)
    claim = await _post(client, "claims", {"worker": "w", "units": units, "task": task})
    return [{"lease": claim["lease"], **unit} for unit in claim.get("units", [])]


async def _report(client: httpx2.AsyncClient, unit: Reply, **outcome: Any) -> str:
    report = {"lease": unit["lease"], "worker": "w", "ref": unit["ref"], **outcome}
    (answer,) = (await _post(client, "reports", {"reports": [report]}))["answers"]
    return str(answer)


async def _fail(client: httpx2.AsyncClient, unit: Reply, kind: str) -> str:
    return await _report(client, unit, failure={"kind": kind, "error": "it is so"})


async def _work_off(client: httpx2.AsyncClient, task: int) -> Sequence[str]:
    """Do all that a task has to do, and merge all of it; return the names of its outputs."""
    names = []
    while units := await _claim(client, task, 9):
        for unit in units:
            slot, left, entries = unit.get("output"), FILES[PFN], 100
            if unit["type"] == "range":
                slot, left, entries = unit["outputs"][0], TREE, 50
            stored = (await client.put(slot["url"], content=left, headers=DOOR)).json()
            output = {"stream": "output", "entries": {"Events": entries}, **stored}
            assert await _report(client, unit, success={"outputs": [output]}) == "accepted"
            names.append(stored["name"])
    await VirtualClock().sleep(1.0)
    return names


def test_a_chained_task_that_no_node_can_go_on_with_pauses_and_says_why() -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        first, second = await _submit(client), await _submit(client)
        child = await _submit(client, first, second, limits={"node_failures_max": 2})
        name, _ = await _work_off(client, second)
        for _ in range(2):
            (unit,) = await _claim(client, child)
            assert unit["ref"]["chunk"] >= FILES_PER_PARENT_MAX
            assert await _fail(client, unit, "node") == "accepted"
        view = await _get(client, f"tasks/{child}")
        assert view["state"] == "paused"
        assert f"2 attempts on entries 0:50 of {name} failed by their nodes" in view["reason"]

    _with_chains(work)


def test_what_a_chained_task_takes_is_no_secondary_input() -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        first = await _submit(client)
        child = await _submit(client, first)
        await _work_off(client, first)
        beside = {"name": "pu", "dataset": f"task:{child}", "per_event": 1}
        body = {**TASK, "secondary": [beside]}
        for path in ("tasks", "task-previews"):
            problem = await _post(client, path, body, 400)
            assert f"task:{child} is what a task takes of others" in problem["detail"]

    _with_chains(work)


def test_a_parent_whose_files_are_all_withdrawn_is_no_failure() -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        first, second = await _submit(client), await _submit(client)
        child = await _submit(client, first, second)
        for task in (first, second, child):
            await _work_off(client, task)
        assert (await _get(client, f"tasks/{child}"))["process"]["finished"] == 200
        await _post(client, f"tasks/{first}/withdraw", {"file": PFN})
        await VirtualClock().sleep(3.0)
        assert (await _get(client, f"tasks/{first}"))["state"] == "aborted"
        view = await _get(client, f"tasks/{child}")
        assert (view["state"], view.get("reason", "")) == ("done", "")
        assert view["process"]["finished"] == view["process"]["entries"] == 100
        await _post(client, f"tasks/{second}/withdraw", {"file": PFN})
        await VirtualClock().sleep(3.0)
        view = await _get(client, f"tasks/{child}")
        told = (view["state"], view.get("reason", ""))
        assert told == ("done", "its input holds no events in Events")

    _with_chains(work)


def test_a_task_that_waits_for_one_that_has_paused_says_so() -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        first = await _submit(client, limits={"node_failures_max": 1})
        child = await _submit(client, first)
        grandchild = await _submit(client, child)
        assert "reason" not in await _get(client, f"tasks/{grandchild}")
        (unit,) = await _claim(client, first)
        await _fail(client, unit, "node")
        why = (await _get(client, f"tasks/{first}"))["reason"]
        for task in (child, grandchild):
            view = await _get(client, f"tasks/{task}")
            assert view["state"] == "running"
            assert view["reason"] == f"it waits for task {first}, which has paused: {why}"
            assert _stands(msgspec.convert(view, TaskView))
        await _post(client, f"tasks/{first}/resume")
        assert "reason" not in await _get(client, f"tasks/{grandchild}")
        # What somebody has paused, somebody knows of.
        await _post(client, f"tasks/{first}/pause")
        view = await _get(client, f"tasks/{child}")
        assert not _stands(msgspec.convert(view, TaskView))

    _with_chains(work)


@pytest.mark.parametrize("kind", ["input", "source", "node"])
@pytest.mark.parametrize("merge", [False, True])
def test_what_is_lost_after_it_was_taken_is_made_again(kind: str, merge: bool) -> None:
    store = MemoryStore()

    async def work(client: httpx2.AsyncClient) -> None:
        first = await _submit(client, outputs=[{"merge": {"by": "file"} if merge else False}])
        child = await _submit(client, first)
        *_, lost = await _work_off(client, first)
        assert (await _get(client, f"tasks/{first}"))["state"] == "done"
        *_, unit = await _claim(client, child, 9)
        assert unit["lfn"] == lost
        # A worker's word alone changes nothing.
        assert await _fail(client, unit, kind) == "accepted"
        assert (await _get(client, f"tasks/{first}"))["state"] == "done"
        await store.delete(lost)
        *_, unit = await _claim(client, child, 9)
        assert unit["lfn"] == lost
        await _fail(client, unit, kind)
        view = await _get(client, f"tasks/{first}")
        assert (view["state"], view["taken_back"]["times"]) == ("running", 1)
        await _fail(client, unit, kind)
        await VirtualClock().sleep(100.0)
        for task in (first, child):
            await _work_off(client, task)
            view = await _get(client, f"tasks/{task}")
            assert (view["state"], view["taken_back"]["times"]) == ("done", 1)

    _with_chains(work, store)


def test_a_preview_says_what_would_fail_and_what_would_come_to_nothing() -> None:
    store = MemoryStore()

    async def work(client: httpx2.AsyncClient) -> None:
        first = await _submit(client)
        name, _ = await _work_off(client, first)
        child = await _submit(client, first)
        await VirtualClock().sleep(2.0)

        async def warnings(**more: Any) -> str:
            body = {**TASK, "dataset": "", "takes": [{"task": first}], **more}
            view = await _post(client, "task-previews", body)
            return "; ".join(view.get("warnings", []))

        assert "would fail" not in await warnings(branches=["x"])
        assert "has no branch 'nope': the task would fail" in await warnings(branches=["x", "nope"])
        await store.delete(name)
        assert "would fail" not in await warnings(branches=["nope"])
        for unit in await _claim(client, child, 9):
            slot = unit["outputs"][0]
            stored = (await client.put(slot["url"], content=b"a histogram", headers=DOOR)).json()
            output = {"stream": "output", "entries": {}, **stored}
            assert await _report(client, unit, success={"outputs": [output]}) == "accepted"
        told = await warnings(takes=[{"task": child}])
        assert "none of 2 outputs holds events in Events" in told

    _with_chains(work, store)


@pytest.mark.parametrize("text", ["", "x", "1:", ":x", "-1", "1" * 30])
def test_what_names_no_parent_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="names no task"):
        _parent(text)


def test_outputs_are_served_by_the_head_since_edges_have_no_way_to_them() -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        beat = {"url": "https://lyon.example.org", "beat_s": 600.0}
        await _post(client, "edges/lyon/beats", beat)
        first = await _submit(client)
        child = await _submit(client, first)
        (unit, *_) = await _claim(client, first, 1)
        at_the_edge, at_the_head = unit["parts"][0]["plan"]["urls"]
        assert at_the_edge.startswith("https://lyon.example.org/")
        assert (await client.get(at_the_head)).status_code == 307
        assert await _fail(client, unit, "node") == "accepted"
        await _work_off(client, first)
        (unit, *_) = await _claim(client, child, 1)
        (url,) = unit["parts"][0]["plan"]["urls"]
        assert url.startswith("/v1/products/")
        assert (await client.get(url)).content.startswith(b"root")

    _with_chains(work, redirects=True)
