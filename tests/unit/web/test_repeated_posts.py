"""Every POST may come twice: its answer got lost, and the client says the same again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import httpx2

from evstream.assembly import Application
from evstream.web import api_document
from tests.unit.web.test_api import DOOR, FILES, TASK, with_application

PFN = next(iter(FILES))
LFN = PFN.rpartition("/")[2]
COPY = {"dataset": "user:x", "replicas": [{"lfn": LFN, "pfn": "root://h//a", "site": "s"}]}
SLICE = {"dataset": "user:x", "entry_start": 0, "entry_stop": 10}
ON = {"collection": {"dataset": "user:x"}, "key": "good"}
NOTE = {**ON, "value": 1, "author": "anna"}
REQUEST = {"dataset": "user:x", "granularity": {"events": 10}}
BEAT = {"url": "https://a.example.org", "beat_s": 5.0, "capacity_bytes": 100, "status": {}}


@dataclass(frozen=True)
class Post:
    """What is sent twice with one Idempotency-Key.

    Attributes
    ----------
    again : object
        The second answer where it says that all was done before; None: the same as the first.
    other : object
        Another body, refused under this key with 409; None: nothing is kept under it.
    """

    path: str
    body: Any = None
    again: Any = None
    other: Any = None


def posts(key: str, descriptor: Any) -> list[Post]:
    """Return a course through all routes, in which each meets what it is about."""
    one = {"descriptor": descriptor}
    held = {**one, "encoder_id": "e1", "size": 10, "sha256": "a" * 64}
    wrong = {"url": "https://a.example.org", "etag": f"{key}-e1", "sha256": "b" * 64}
    ref = {"book": 2, "chunk": 0, "entry_start": 0, "entry_stop": 100, "attempt": 1}
    report: dict[str, Any] = {"lease": "claim-1", "worker": "w", "ref": ref}
    report["failure"] = {"kind": "payload", "error": "x"}
    unchanged = {"changed": 0}
    return [
        Post("/v1/task-previews", TASK),
        Post("/v1/tasks", TASK, other={**TASK, "name": "another"}),
        Post("/v1/products", one),
        Post("/v1/edges/a/beats", BEAT),
        Post("/v1/edges/a/products", {"products": [held]}, unchanged),
        Post("/v1/complaints", wrong),
        Post("/v1/edges/a/state", {"state": "serving", "reason": "it was looked at"}),
        Post("/v1/edges/a/bad-replicas", {"replicas": []}),
        Post("/v1/product-searches", {"slices": [SLICE]}),
        Post("/v1/readiness", {"dataset": "user:x"}),
        Post("/v1/plans", {"descriptors": [descriptor]}),
        Post("/v1/foreign-ranges", {"ranges": [{"lfn": LFN, "entry_start": 0, "entry_stop": 9}]}),
        Post("/v1/links", {"links": []}),
        Post("/v1/wanted", {"requests": [one]}),
        Post("/v1/edges/a/drops", {"products": [{"key": key, "encoder_id": "e1"}]}, unchanged),
        Post("/v1/replicas", COPY),
        Post("/v1/replica-removals", COPY, unchanged),
        Post("/v1/event-lookups", {"dataset": "user:x", "events": []}),
        Post("/v1/claims", {"worker": "w", "units": 1}, other={"worker": "v", "units": 1}),
        Post("/v1/leases/claim-1/renew", {"worker": "w", "lease_s": 60}),
        Post("/v1/reports", {"reports": [report]}, {"answers": ["already_accepted"]}),
        Post("/v1/leases/claim-1/release", {"worker": "w"}),
        Post("/v1/workers/w/lost", {}),
        Post("/v1/tasks/1/pause"),
        Post("/v1/tasks/1/resume"),
        Post("/v1/tasks/1/schedule", {}),
        Post("/v1/tasks/1/retry", {}),
        Post("/v1/tasks/1/reprocess", {"file": LFN}),
        Post("/v1/tasks/1/withdraw", {"file": LFN}),
        Post("/v1/tasks/1/cancel"),
        Post("/v1/tasks/1/archive", {}),
        Post("/v1/requests", REQUEST, other={**REQUEST, "granularity": {"events": 20}}),
        Post("/v1/edges/a/claims", {"units": 1, "lease_s": 60}),
        Post("/v1/requests/2/cancel"),
        Post("/v1/whiteboard/notes", NOTE, other={**NOTE, "value": 2}),
        Post("/v1/whiteboard/reads", ON),
        Post("/v1/whiteboard/histories", ON),
        Post("/v1/whiteboard/searches", {"key": "good"}),
        Post("/v1/whiteboard/events", {"dataset": "user:x", "entry_start": 0}),
        Post("/v1/whiteboard/removals", {**ON, "author": "anna"}),
    ]


FIRST = [
    Post("/v1/datasets", {"name": "user:x", "files": [{"pfn": PFN}]}),
    Post("/v1/slices", SLICE),
]


async def twice(client: httpx2.AsyncClient, post: Post, key: str) -> Any:
    headers = {"Idempotency-Key": key}
    first = await client.post(post.path, json=post.body, headers=headers)
    second = await client.post(post.path, json=post.body, headers=headers)
    assert first.status_code == second.status_code, (post.path, second.text)
    expected = first.json() if post.again is None else post.again
    assert second.json() == expected, post.path
    if post.other is not None:
        other = await client.post(post.path, json=post.other, headers=headers)
        assert other.status_code == 409, (post.path, other.text)
        assert (await client.post(post.path, json=post.body, headers=headers)).json() == expected
    return first


REFUSED = {
    "/v1/tasks/1/retry": 409,  # Nothing was set aside.
    "/v1/tasks/1/archive": 409,  # There is no archive here.
    "/v1/event-lookups": 404,  # There is no index here.
}


def test_each_post_may_come_twice() -> None:
    async def work(application: Application) -> None:
        transport = httpx2.ASGITransport(application.app)
        async with httpx2.AsyncClient(
            transport=transport, base_url="http://test", headers=DOOR
        ) as client:
            told = {"type": "int", "author": "anna"}
            _, plan = [(await twice(client, post, "first")).json() for post in FIRST]
            assert (await client.put("/v1/whiteboard/keys/good", json=told)).is_success
            for number, post in enumerate(posts(plan["key"], plan["descriptor"])):
                key = "claim-1" if post.path == "/v1/claims" else f"key-{number}"
                answer = await twice(client, post, key)
                status = REFUSED.get(post.path, answer.status_code)
                assert answer.status_code == status, (post.path, answer.text)
                assert answer.is_success or post.path in REFUSED, (post.path, answer.text)

    with_application(work, FILES)


def test_no_route_is_left_out() -> None:
    tried = {post.path for post in [*FIRST, *posts("", {})]}
    for path, there in api_document()["paths"].items():
        if "post" in there:
            pattern = re.sub(r"\{\w+\}", "[^/]+", path)
            assert any(re.fullmatch(pattern, one) for one in tried), path
