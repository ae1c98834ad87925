"""What a confused or lying pilot reports never becomes part of a result."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from evstream.adapters.storage.memory import MemoryStore
from evstream.domain.errors import TransientError
from evstream.domain.ledger import ERROR_CHARS_MAX
from evstream.ports import Stored
from evstream.testing.virtual_time import VirtualClock
from evstream.wire.work_messages import INLINE_BYTES_MAX
from tests.unit.web.test_api import DOOR, TASK, _with_api


async def _claim_and_store(client: httpx2.AsyncClient) -> tuple[dict[str, Any], dict[str, Any]]:
    await client.post("/v1/tasks", json={**TASK, "granularity": {"events": 50}}, headers=DOOR)
    body = {"worker": "w", "units": 1}
    claim = (await client.post("/v1/claims", json=body, headers=DOOR)).json()
    unit = claim["units"][0]
    slot = unit["outputs"][0]
    stored = (await client.put(slot["url"], content=b"result", headers=DOOR)).json()
    output = {"stream": "output", "entries": {}, **stored}
    return {"lease": claim["lease"], "worker": "w", "ref": unit["ref"]}, output


LIES: list[Any] = [
    lambda output: [],
    lambda output: [output, output],
    lambda output: [{**output, "stream": "other"}],
    lambda output: [{**output, "size": output["size"] + 1}],
    lambda output: [{**output, "sha256": "0" * 64}],
    lambda output: [{**output, "name": output["name"].replace("tasks/1", "tasks/2")}],
    lambda output: [{**output, "name": output["name"].replace(".a1.", ".a2.")}],
]


@pytest.mark.parametrize("lie", LIES)
def test_a_false_success_is_a_failed_attempt(lie: Any) -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        report, output = await _claim_and_store(client)
        report["success"] = {"outputs": lie(output)}
        body = {"reports": [report]}
        answer = await client.post("/v1/reports", json=body, headers=DOOR)
        assert answer.json() == {"answers": ["accepted"]}
        progress = (await client.get("/v1/tasks/1", headers=DOOR)).json()["process"]
        assert progress.get("finished", 0) == 0
        assert progress["failed_attempts"] == 1

    _with_api(work)


async def _claim_and_keep(client: httpx2.AsyncClient, content: bytes) -> dict[str, Any]:
    """Return a report on a unit whose output comes with it."""
    await client.post("/v1/tasks", json={**TASK, "granularity": {"events": 50}}, headers=DOOR)
    body = {"worker": "w", "units": 1}
    claim = (await client.post("/v1/claims", json=body, headers=DOOR)).json()
    unit = claim["units"][0]
    output = {
        "stream": "output",
        "name": unit["outputs"][0]["name"],
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "adler32": f"{zlib.adler32(content):08x}",
    }
    contents = {output["name"]: base64.b64encode(content).decode()}
    report = {"lease": claim["lease"], "worker": "w", "ref": unit["ref"], "contents": contents}
    return {**report, "success": {"outputs": [output]}}


def test_an_output_that_comes_with_its_report_is_stored_and_counts_once() -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        content = bytes(range(256)) * (INLINE_BYTES_MAX // 256)
        report = await _claim_and_keep(client, content)
        (name,) = report["contents"]
        body = {"reports": [report]}
        for word in ("accepted", "already_accepted"):
            answer = await client.post("/v1/reports", json=body, headers=DOOR)
            assert answer.json() == {"answers": [word]}
        assert (await client.get(f"/v1/outputs/{name}", headers=DOOR)).content == content
        (told,) = (await client.get("/v1/tasks/1/outputs", headers=DOOR)).json()["items"]
        assert told["name"] == name
        assert (await client.get("/v1/tasks/1", headers=DOOR)).json()["process"]["finished"] == 50

    _with_api(work)


def test_a_content_that_is_not_what_was_reported_is_a_failed_attempt() -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        report = await _claim_and_keep(client, b"result")
        (name,) = report["contents"]
        report["contents"] = {name: base64.b64encode(b"another").decode()}
        answer = await client.post("/v1/reports", json={"reports": [report]}, headers=DOOR)
        assert answer.json() == {"answers": ["accepted"]}
        (failure,) = (await client.get("/v1/tasks/1/failures", headers=DOOR)).json()["items"]
        assert (failure["kind"], "other content" in failure["error"]) == ("output", True)

    _with_api(work)


def test_contents_without_an_output_or_too_large_are_refused_and_not_stored() -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        report = await _claim_and_keep(client, b"x" * (INLINE_BYTES_MAX + 1))
        (name,) = report["contents"]
        other = name.replace(".a1.", ".a2.")
        failure = {"success": None, "failure": {"kind": "payload", "error": "e"}}
        small = {"contents": {name: ""}}
        for bad in (report, {**report, "contents": {other: ""}}, {**report, **small, **failure}):
            answer = await client.post("/v1/reports", json={"reports": [bad]}, headers=DOOR)
            assert answer.status_code == 400, bad
            assert "contents" in answer.json()["detail"]
        for one in (name, other):
            assert (await client.get(f"/v1/outputs/{one}", headers=DOOR)).status_code == 404

    _with_api(work)


class FullStore(MemoryStore):
    """A store without room, until there is some."""

    full = True

    async def put(self, name: str, content: AsyncIterator[bytes]) -> Stored:
        if self.full:
            raise TransientError("no space")
        return await super().put(name, content)


def test_a_store_without_room_for_contents_costs_the_range_nothing() -> None:
    store = FullStore()

    async def work(client: httpx2.AsyncClient) -> None:
        report = await _claim_and_keep(client, b"result")
        answer = await client.post("/v1/reports", json={"reports": [report]}, headers=DOOR)
        assert answer.status_code == 503
        store.full = False
        answer = await client.post("/v1/reports", json={"reports": [report]}, headers=DOOR)
        assert answer.json() == {"answers": ["accepted"]}
        assert (await client.get("/v1/tasks/1/failures", headers=DOOR)).json()["items"] == []

    _with_api(work, store=store)


BAD_NUMBERS: list[dict[str, Any]] = [
    {"failure": {"kind": "payload", "error": "e", "cpu_s": -1.0}},
    {"failure": {"kind": "bogus", "error": "e"}},
    {"success": {"outputs": [], "bytes_in": -5}},
    {"success": {"outputs": [], "bytes_in": 2**62}},
    {"success": {"outputs": [], "cpu_s": 1.7e308}},
]


@pytest.mark.parametrize("outcome", BAD_NUMBERS)
def test_numbers_that_would_falsify_sums_are_refused(outcome: dict[str, Any]) -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        report, _ = await _claim_and_store(client)
        body = {"reports": [{**report, **outcome}]}
        assert (await client.post("/v1/reports", json=body, headers=DOOR)).status_code == 400

    _with_api(work)


def test_a_true_success_is_accepted_once() -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        report, output = await _claim_and_store(client)
        report["success"] = {"outputs": [output]}
        body = {"reports": [report, report]}
        answer = await client.post("/v1/reports", json=body, headers=DOOR)
        assert answer.json() == {"answers": ["accepted", "already_accepted"]}
        progress = (await client.get("/v1/tasks/1", headers=DOOR)).json()["process"]
        assert progress["finished"] == 50

    _with_api(work)


@pytest.mark.parametrize(
    ("kind", "other"),
    [("input", "tasks/1/log/2-0-0-50.a2"), ("payload", "tasks/1/output/2-0-0-50.a1")],
)
def test_a_log_that_is_anothers_is_refused(kind: str, other: str) -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        report, _ = await _claim_and_store(client)
        log = f"{other}.{report['lease']}.txt"
        body = {"reports": [{**report, "failure": {"kind": kind, "error": "e", "log": log}}]}
        assert (await client.post("/v1/reports", json=body, headers=DOOR)).status_code == 400

    _with_api(work)


def test_a_report_on_a_task_that_never_was_troubles_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        report, _ = await _claim_and_store(client)
        report["ref"] = {**report["ref"], "book": 1998}
        body = {"reports": [{**report, "failure": {"kind": "payload", "error": "e"}}]}
        answer = await client.post("/v1/reports", json=body, headers=DOOR)
        assert answer.json() == {"answers": ["superseded"]}
        await VirtualClock().sleep(30.0)

    _with_api(work)
    assert not [record for record in caplog.records if "task 999" in record.getMessage()]


def test_a_reason_without_end_is_cut() -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        report, _ = await _claim_and_store(client)
        body = {"reports": [{**report, "failure": {"kind": "payload", "error": "e" * 100_000}}]}
        await client.post("/v1/reports", json=body, headers=DOOR)
        (failure,) = (await client.get("/v1/tasks/1/failures", headers=DOOR)).json()["items"]
        assert failure["error"] == "e" * ERROR_CHARS_MAX

    _with_api(work)


def test_a_merge_that_does_not_add_up_fails_the_task_and_keeps_its_parts() -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        task = {**TASK, "granularity": {"events": 50}, "outputs": [{"merge": True}]}
        await client.post("/v1/tasks", json=task, headers=DOOR)
        parts = []
        for entries in (50, 50, 60, 60, 60):
            body = {"worker": "w", "units": 1}
            claim: dict[str, Any] = {"units": []}
            while not claim.get("units"):
                claim = (await client.post("/v1/claims", json=body, headers=DOOR)).json()
                await VirtualClock().sleep(1.0)
            unit = claim["units"][0]
            slot = unit["outputs"][0] if unit["type"] == "range" else unit["output"]
            stored = (await client.put(slot["url"], content=b"x", headers=DOOR)).json()
            output = {"stream": "output", "entries": {"Events": entries}, **stored}
            parts.append(stored["name"])
            report = {"lease": claim["lease"], "worker": "w", "ref": unit["ref"]}
            report["success"] = {"outputs": [output]}
            await client.post("/v1/reports", json={"reports": [report]}, headers=DOOR)
        await VirtualClock().sleep(200.0)
        view = (await client.get("/v1/tasks/1", headers=DOOR)).json()
        assert view["state"] == "failed"
        assert "the merge has 60 entries in Events, its parts have 100" in view["reason"]
        for name in parts[:2]:
            assert (await client.get(f"/v1/outputs/{name}", headers=DOOR)).status_code == 200

    _with_api(work)


STREAMS = [
    {"entries": "as input"},
    {"name": "hist", "pattern": "h*.root", "optional": True},
    {"name": "notes", "suffix": ".txt"},
]


@pytest.mark.parametrize(
    ("streams", "entries", "said"),
    [
        (["output", "notes"], 50, ""),
        (["output", "hist", "hist", "notes"], 50, ""),
        (["output"], 50, "leaves no 0 files for stream 'notes'"),
        (["output", "notes", "notes"], 50, "leaves no 2 files for stream 'notes'"),
        (["output", "notes", "other"], 50, "no output stream 'other'"),
        (["output", "notes"], 49, "holds 49 events, its range has 50"),
    ],
)
def test_each_unit_leaves_what_its_task_says(streams: list[str], entries: int, said: str) -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        task = {**TASK, "outputs": STREAMS, "granularity": {"events": 50}}
        await client.post("/v1/tasks", json=task, headers=DOOR)
        body = {"worker": "w", "units": 1}
        claim = (await client.post("/v1/claims", json=body, headers=DOOR)).json()
        unit = claim["units"][0]
        slots = {slot["stream"]: slot for slot in unit["outputs"]}
        outputs: list[dict[str, Any]] = []
        for stream in streams:
            slot = slots.get(stream, slots["notes"])
            number = sum(output["stream"] == stream for output in outputs)
            url = f"{slot['url']}&n={number}"
            stored = (await client.put(url, content=b"result", headers=DOOR)).json()
            outputs.append({"stream": stream, "entries": {"Events": entries}, **stored})
        report = {"lease": claim["lease"], "worker": "w", "ref": unit["ref"]}
        report["success"] = {"outputs": outputs}
        answer = await client.post("/v1/reports", json={"reports": [report]}, headers=DOOR)
        assert answer.json() == {"answers": ["accepted"]}
        failures = (await client.get("/v1/tasks/1/failures", headers=DOOR)).json()["items"]
        assert [failure["kind"] for failure in failures] == ["output"] * bool(said)
        assert all(said in failure["error"] for failure in failures)

    _with_api(work)


@pytest.mark.parametrize("number", ["-1", "1000", "x", "٣"])
def test_a_file_number_out_of_bounds_is_refused(number: str) -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        await client.post("/v1/tasks", json=TASK, headers=DOOR)
        body = {"worker": "w", "units": 1}
        claim = (await client.post("/v1/claims", json=body, headers=DOOR)).json()
        url = claim["units"][0]["outputs"][0]["url"]
        answer = await client.put(f"{url}&n={number}", content=b"x", headers=DOOR)
        assert answer.status_code == 400
        assert "file number" in answer.json()["detail"]

    _with_api(work)


async def _next_unit(client: httpx2.AsyncClient) -> dict[str, Any]:
    """Claim one unit, and wait for it if need be; it holds its lease too."""
    for _ in range(60):
        body = {"worker": "w", "units": 1}
        claim = (await client.post("/v1/claims", json=body, headers=DOOR)).json()
        if claim["units"]:
            return {"lease": claim["lease"], **claim["units"][0]}
        await VirtualClock().sleep(1.0)
    raise AssertionError("there is nothing to do")


async def _succeed(client: httpx2.AsyncClient, unit: dict[str, Any], entries: int) -> str:
    """Store and report an output for a unit; return its name."""
    slot = unit["outputs"][0] if unit["type"] == "range" else unit["output"]
    stored = (await client.put(slot["url"], content=b"result", headers=DOOR)).json()
    output = {"stream": "output", "entries": {"Events": entries}, **stored}
    report = {"lease": unit["lease"], "worker": "w", "ref": unit["ref"]}
    report["success"] = {"outputs": [output]}
    answer = await client.post("/v1/reports", json={"reports": [report]}, headers=DOOR)
    assert answer.json() == {"answers": ["accepted"]}
    return str(stored["name"])


async def _fail(client: httpx2.AsyncClient, unit: dict[str, Any], kind: str) -> list[str]:
    failure = {"kind": kind, "error": "not what was committed"}
    report = {"lease": unit["lease"], "worker": "w", "ref": unit["ref"], "failure": failure}
    body = {"reports": [report]}
    return list((await client.post("/v1/reports", json=body, headers=DOOR)).json()["answers"])


@pytest.mark.parametrize("kind", ["input", "node"])
def test_a_merge_whose_input_is_gone_has_its_range_done_again(kind: str) -> None:
    store = MemoryStore()

    async def work(client: httpx2.AsyncClient) -> None:
        task = {**TASK, "granularity": {"events": 50}, "outputs": [{"merge": True}]}
        await client.post("/v1/tasks", json=task, headers=DOOR)
        parts = [await _succeed(client, await _next_unit(client), 50) for _ in range(2)]
        merge = await _next_unit(client)
        assert [piece["name"] for piece in merge["inputs"]] == parts
        # A worker's word alone changes nothing.
        assert await _fail(client, merge, "node") == ["accepted"]
        await store.delete(parts[0])
        merge = await _next_unit(client)
        assert merge["type"] == "merge"
        assert await _fail(client, merge, kind) == ["superseded"]
        again = await _next_unit(client)
        assert (again["type"], again["ref"]["entry_start"], again["ref"]["attempt"]) == (
            "range",
            0,
            2,
        )
        # The merge's late word does no more.
        assert await _fail(client, merge, kind) == ["superseded"]
        parts[0] = await _succeed(client, again, 50)
        merge = await _next_unit(client)
        assert [piece["name"] for piece in merge["inputs"]] == parts
        await _succeed(client, merge, 100)
        await VirtualClock().sleep(5.0)
        assert (await client.get("/v1/tasks/1", headers=DOOR)).json()["state"] == "done"

    _with_api(work, store=store)
