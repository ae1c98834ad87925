"""The API from outside, in-process: what is refused, and how."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest

from evstream import rootio
from evstream.adapters.catalogue.memory import MemoryDatabase
from evstream.adapters.formats import KnownFormats
from evstream.adapters.offload import InPlace
from evstream.adapters.source.memory import MemoryOpener, MemorySource
from evstream.adapters.storage.memory import MemoryStore
from evstream.assembly import Application, Keys, Parts
from evstream.client import Connection, Service
from evstream.domain.errors import TooLargeError
from evstream.settings import Settings
from evstream.testing.seeded_ids import SeededIds
from evstream.testing.simulator import sample_files
from evstream.testing.virtual_time import VirtualClock, run_virtual
from evstream.wire import messages as m

TOKEN = "secret"
DOOR = {"Authorization": f"Bearer {TOKEN}"}
FILES = sample_files(files=1, entries=100)
PFN = next(iter(FILES))
SETTINGS = Settings()
OUTPUT = "tasks/1/output/2-0-0-1.a1.l.root"
TASK = {"name": "t", "dataset": "user:x", "payload": {"command": "cp {input} {output}"}}

Work = Callable[[httpx2.AsyncClient], Awaitable[None]]


def with_application(
    work: Callable[[Application], Awaitable[None]],
    files: Mapping[str, bytes],
    settings: Settings = SETTINGS,
    store: MemoryStore | None = None,
    *,
    redirects: bool = False,
) -> None:
    """Run some work against a service in memory whose sources these files are."""

    async def main() -> None:
        clock = VirtualClock()
        database = MemoryDatabase(clock)
        opener = MemoryOpener(files)
        parts = Parts(
            clock,
            SeededIds(1),
            InPlace(),
            database.ledger,
            database.catalogue,
            database.products,
            database.whiteboard,
            database.links,
            store or MemoryStore(),
            opener,
            KnownFormats(),
            access_keys=database.access_keys,
        )
        keys = Keys(b"u" * 32, b"r" * 32)
        application = Application(parts, keys, settings, TOKEN, redirects=redirects)
        loops = [asyncio.create_task(loop) for loop in application.loops()]
        await work(application)
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        await application.close()

    run_virtual(main)


def _with_api(
    work: Work,
    files: Mapping[str, bytes] = FILES,
    settings: Settings = SETTINGS,
    store: MemoryStore | None = None,
    *,
    redirects: bool = False,
) -> None:
    """Run some work against an API in memory that has one dataset."""

    async def ask(application: Application) -> None:
        transport = httpx2.ASGITransport(application.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            body = {"name": "user:x", "files": [{"pfn": next(iter(files))}]}
            added = await client.post("/v1/datasets", json=body, headers=DOOR)
            assert added.status_code == 201, added.text
            await work(client)

    with_application(ask, files, settings, store, redirects=redirects)


BAD: list[tuple[str, str, Any, int]] = [
    ("GET", "/v1/nothing", None, 404),
    ("DELETE", "/v1/tasks", None, 405),
    ("GET", "/v1/tasks/99", None, 404),
    ("GET", "/v1/tasks/one", None, 404),
    ("GET", "/v1/tasks/\u0661", None, 404),
    ("POST", "/v1/datasets", {"files": [{"pfn": PFN, "lfn": "../../etc/x"}]}, 400),
    ("POST", "/v1/datasets", {"files": [{"pfn": PFN, "lfn": "/etc/x"}]}, 400),
    ("POST", "/v1/datasets", {"files": [{"pfn": PFN, "asked": {"Events": [[5, 2]]}}]}, 400),
    (
        "POST",
        "/v1/datasets",
        {"files": [{"pfn": PFN, "asked": {"Events": [[0, 9], [8, 10]]}}]},
        400,
    ),
    ("POST", "/v1/datasets", {"files": [{"pfn": PFN, "asked": {"Nope": [[0, 9]]}}]}, 400),
    ("GET", "/v1/datasets/user:none", None, 404),
    ("POST", "/v1/tasks", b"{not json", 400),
    ("POST", "/v1/tasks", b"[1]", 400),
    ("POST", "/v1/tasks", {**TASK, "colour": "red"}, 400),
    ("POST", "/v1/tasks", {**TASK, "granularity": {"events": "many"}}, 400),
    ("POST", "/v1/tasks", {**TASK, "granularity": {"events": 0}}, 400),
    ("POST", "/v1/tasks", {**TASK, "granularity": {"events": 10**30}}, 400),
    ("POST", "/v1/tasks", {**TASK, "tree": "Nope"}, 400),
    ("POST", "/v1/tasks", {**TASK, "branches": ["evnt"]}, 400),
    ("POST", "/v1/tasks", {**TASK, "dataset": "user:none"}, 404),
    ("POST", "/v1/claims", {"worker": "a b", "units": 1}, 400),
    ("POST", "/v1/claims", {"worker": "a", "units": 10**9}, 400),
    ("POST", "/v1/reports", {"reports": [{"lease": "l", "worker": "w"}]}, 400),
    ("POST", "/v1/slices", {"dataset": "user:x", "entry_start": 90, "entry_stop": 200}, 400),
    ("POST", "/v1/products", {"descriptor": {"evstream": 7}}, 400),
    ("POST", "/v1/products", b'{"descriptor":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001, 400),
    ("GET", "/v1/products/" + "0" * 64, None, 404),
    ("GET", "/v1/outputs/../../etc/passwd", None, 404),
    ("PUT", "/v1/outputs/tasks/1/..%2f..%2fx", b"x", 400),
    ("GET", "/v1/outputs/tasks/1/output/2-0-0-1.a1.l.root", None, 404),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), BAD)
def test_what_cannot_be_done_is_a_problem(method: str, path: str, body: Any, status: int) -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        options: dict[str, Any] = {"content": body} if isinstance(body, bytes) else {"json": body}
        response = await client.request(method, path, headers=DOOR, **options)
        assert response.status_code == status, response.text
        assert response.headers["content-type"] == "application/problem+json"
        problem = response.json()
        assert problem["status"] == status
        assert problem["code"]
        assert problem["detail"]

    _with_api(work)


def test_the_same_key_makes_one_task_and_never_another() -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        headers = {**DOOR, "Idempotency-Key": "k1"}
        first = await client.post("/v1/tasks", json=TASK, headers=headers)
        again = await client.post("/v1/tasks", json=TASK, headers=headers)
        other = await client.post("/v1/tasks", json={**TASK, "name": "u"}, headers=headers)
        assert (first.status_code, again.status_code) == (201, 201)
        assert first.json()["id"] == again.json()["id"]
        assert other.status_code == 409

    _with_api(work)


def test_the_door() -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}):
            assert (await client.get("/v1/tasks", headers=headers)).status_code == 401
        assert (await client.get("/v1/tasks", headers=DOOR)).status_code == 200

    _with_api(work)


async def _plan(client: httpx2.AsyncClient) -> dict[str, Any]:
    body = {"dataset": "user:x", "entry_start": 10, "entry_stop": 20}
    plan: dict[str, Any] = (await client.post("/v1/slices", json=body, headers=DOOR)).json()
    return plan


def test_a_signed_url_opens_one_thing_for_a_while() -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        plan = await _plan(client)
        url = plan["urls"][0]
        whole = await client.get(url)
        assert whole.status_code == 200
        assert (await client.head(url)).headers["content-length"] == str(len(whole.content))
        path, query = url.split("?")
        other = path.replace(plan["key"], "0" * 64)
        assert (await client.get(f"{other}?{query}")).status_code == 403
        assert (await client.put(url, content=b"x")).status_code == 403
        assert (await client.get(url.replace("s=", "s=0"))).status_code == 403
        assert (await client.get("/v1/tasks?" + query)).status_code == 401
        await VirtualClock().sleep(2 * 86_400)
        assert (await client.get(url)).status_code == 403

    _with_api(work)


RANGES = [
    ("bytes=0-9", 206, slice(0, 10)),
    ("bytes=10-", 206, slice(10, None)),
    ("bytes=-7", 206, slice(-7, None)),
    ("bytes=0-", 206, slice(None)),
    ("bytes=5-2", 200, slice(None)),
    ("lines=1-2", 200, slice(None)),
    ("bytes=999999999-", 416, slice(0, 0)),
    ("bytes=" + "9" * 5000 + "-", 200, slice(None)),
]


@pytest.mark.parametrize(("header", "status", "part"), RANGES)
def test_ranges_of_a_product(header: str, status: int, part: slice) -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        url = (await _plan(client))["urls"][0]
        whole = await client.get(url)
        found = await client.get(url, headers={"Range": header})
        assert found.status_code == status
        assert found.headers["etag"] == whole.headers["etag"]
        assert found.content == whole.content[part]
        stale = await client.get(url, headers={"Range": header, "If-Range": '"old"'})
        assert (stale.status_code, stale.content) == (200, whole.content)
        same = await client.get(url, headers={"If-None-Match": whole.headers["etag"]})
        assert (same.status_code, same.content) == (304, b"")

    _with_api(work)


def test_an_unknown_product_is_registered_by_its_descriptor() -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        plan = await _plan(client)
        bare = f"/v1/products/{'1' * 64}"
        unknown = await client.get(bare, headers=DOOR)
        assert unknown.json()["code"] == "descriptor_unknown"
        body = {"descriptor": plan["descriptor"]}
        made = (await client.post("/v1/products", json=body, headers=DOOR)).json()
        assert made["key"] == plan["key"]
        got = await client.get(f"/v1/products/{plan['key']}", headers=DOOR)
        assert got.content == (await client.get(plan["urls"][0])).content

    _with_api(work)


def test_an_upload_that_breaks_off_leaves_nothing() -> None:
    name = "tasks/1/output/2-0-0-1.a1.l.root"

    async def broken() -> AsyncIterator[bytes]:
        yield b"half"
        raise OSError("the sender died")

    async def work(client: httpx2.AsyncClient) -> None:
        with pytest.raises(OSError, match="the sender died"):
            await client.put(f"/v1/outputs/{name}", content=broken(), headers=DOOR)
        assert (await client.get(f"/v1/outputs/{name}", headers=DOOR)).status_code == 404

    _with_api(work)


def test_secrets_of_sources_are_shown_to_nobody() -> None:
    pfn = "https://me:passw0rd@host/a.root?X-Amz-Signature=abcdef"

    async def work(client: httpx2.AsyncClient) -> None:
        made = await client.post("/v1/tasks", json=TASK, headers=DOOR)
        path = f"/v1/tasks/{made.json()['id']}"
        await client.post(f"{path}/cancel", headers=DOOR)
        told = [await client.get("/v1/datasets/user:x", headers=DOOR)]
        told.append(await client.get(f"{path}/receipt", headers=DOOR))
        body = {"files": [{"pfn": pfn, "uuid": "0"}]}
        told.append(await client.post("/v1/datasets", json=body, headers=DOOR))
        for answer in told:
            assert "https://host/a.root" in answer.text
            assert "passw0rd" not in answer.text
            assert "abcdef" not in answer.text

    _with_api(work, {pfn: FILES[PFN]})


PRODUCT = b'{"descriptor":{"a":"' + b"x" * (1 << 20) + b'"}}'
TOO_LARGE: list[tuple[str, str, Any, dict[str, str]]] = [
    ("POST", "/v1/tasks", b"{}", {"Content-Length": "99999999999999"}),
    ("POST", "/v1/products", PRODUCT, {}),
    ("PUT", f"/v1/outputs/{OUTPUT}", b"x" * 16385, {}),
    ("PUT", f"/v1/outputs/{OUTPUT}", b"x", {"Content-Length": "16385"}),
    ("PUT", f"/v1/outputs/{OUTPUT}", [b"x" * 16000, b"x" * 385], {}),
]


@pytest.mark.parametrize(("method", "path", "body", "more"), TOO_LARGE)
def test_a_body_has_a_limit(method: str, path: str, body: Any, more: dict[str, str]) -> None:
    async def piecewise() -> AsyncIterator[bytes]:
        for piece in body:
            yield piece

    async def work(client: httpx2.AsyncClient) -> None:
        content = piecewise() if isinstance(body, list) else body
        answer = await client.request(method, path, content=content, headers={**DOOR, **more})
        assert answer.status_code == 413
        assert answer.json()["code"] == "too_large"
        assert (await client.get(f"/v1/outputs/{OUTPUT}", headers=DOOR)).status_code == 404
        fits = await client.put(f"/v1/outputs/{OUTPUT}", content=b"x" * 16384, headers=DOOR)
        assert fits.status_code == 200

    _with_api(work, settings=Settings(output_bytes_max=16384))


def test_remembered_descriptors_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        plan = await _plan(client)
        monkeypatch.setattr("evstream.edge.products.DESCRIPTORS_BYTES_MAX", 1000)
        keys = []
        for stop in range(20, 30):
            descriptor = {**plan["descriptor"]}
            source = {**descriptor["sources"][0], "entries": [[0, stop]]}
            body = {"descriptor": {**descriptor, "sources": [source]}}
            made = await client.post("/v1/products", json=body, headers=DOOR)
            keys.append(made.json()["key"])
        found = [await client.get(f"/v1/products/{key}", headers=DOOR) for key in keys]
        assert (found[0].status_code, found[-1].status_code) == (404, 200)

    _with_api(work)


def test_a_cancelled_task_that_never_merged_can_be_looked_at_and_swept() -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        made = await client.post(
            "/v1/tasks", json={**TASK, "outputs": [{"merge": True}]}, headers=DOOR
        )
        path = f"/v1/tasks/{made.json()['id']}"
        claim = {"worker": "w", "units": 1}
        answer = await client.post("/v1/claims", json=claim, headers=DOOR)
        url = answer.json()["units"][0]["outputs"][0]["url"]
        assert (await client.put(url, content=b"left behind")).status_code == 200
        ended = await client.post(f"{path}/cancel", headers=DOOR)
        assert ended.json()["state"] == "aborted"
        for part in ("", "/failures", "/outputs", "/receipt"):
            assert (await client.get(path + part, headers=DOOR)).status_code == 200, part
        assert (await client.get(url, headers=DOOR)).status_code == 200
        await VirtualClock().sleep(120.0)
        assert (await client.get(url, headers=DOOR)).status_code == 404, "swept"

    _with_api(work)


def test_a_source_that_has_gone_is_told_before_the_first_byte(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Too large for the shelf of whole products, so that the source is needed again.
    monkeypatch.setattr("evstream.edge.products.WHOLE_BYTES_MAX", 0)
    monkeypatch.setattr("evstream.web.representations.WHOLE_BYTES_MAX", 0)
    files = dict(FILES)

    async def work(client: httpx2.AsyncClient) -> None:
        url = (await _plan(client))["urls"][0]
        assert (await client.get(url)).status_code == 200
        files.clear()
        gone = await client.get(url)
        assert gone.status_code == 404, gone.text
        assert next(iter(FILES)) in gone.json()["detail"]

    _with_api(work, files)


def test_a_source_that_changes_while_it_is_read_is_never_mixed_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("evstream.edge.products.WHOLE_BYTES_MAX", 0)
    monkeypatch.setattr("evstream.edge.products.PIECE_BYTES", 100)
    monkeypatch.setattr("evstream.web.representations.WHOLE_BYTES_MAX", 1 << 30)
    files = dict(FILES)
    name = next(iter(files))

    async def work(client: httpx2.AsyncClient) -> None:
        # All entries, so that whole baskets are copied from the source as they are sent.
        plan = await client.post("/v1/slices", json={"dataset": "user:x"}, headers=DOOR)
        url = plan.json()["urls"][0]
        assert (await client.get(url)).status_code == 200
        read = MemorySource.read_ranges

        def rewritten(self: MemorySource, ranges: Any) -> Any:
            files[name] = b"other" + FILES[name][5:]
            return read(self, ranges)

        monkeypatch.setattr(MemorySource, "read_ranges", rewritten)
        changed = await client.get(url)
        assert changed.status_code == 422
        assert changed.json()["code"] == "source_changed"

    _with_api(work, files)


async def _claim(client: httpx2.AsyncClient, units: int, lease: str, cuts: list[str]) -> list[Any]:
    body = {"worker": "w", "units": units, "lease_s": 5.0, "cuts": cuts}
    headers = {**DOOR, "Idempotency-Key": lease}
    claimed = await client.post("/v1/claims", json=body, headers=headers)
    assert claimed.status_code == 200, claimed.text
    found: list[Any] = claimed.json()["units"]
    return found


def _ranges(units: list[Any]) -> list[Any]:
    """Return the one range of each unit."""
    assert all(len(unit["parts"]) == 1 for unit in units)
    return [unit["parts"][0] for unit in units]


def test_short_units_share_a_product_for_a_worker_that_can_cut() -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        await client.post("/v1/tasks", json={**TASK, "granularity": {"events": 10}}, headers=DOOR)
        for lease, cuts in (("l1", []), ("l2", ["parquet"])):
            units = _ranges(await _claim(client, 2, lease, cuts))
            assert [unit["product_entries"] for unit in units] == [None, None]
            assert len({unit["plan"]["key"] for unit in units}) == 2
        shared = _ranges(await _claim(client, 4, "l3", ["root"]))
        assert [unit["product_entries"] for unit in shared] == [[40, 80]] * 4
        (plan,) = {unit["plan"]["urls"][0] for unit in shared}
        product = await client.get(plan)
        index = rootio.inspect(rootio.BytesSource(product.content))
        assert index.tree("Events").entries == 40
        (single,) = _ranges(await _claim(client, 1, "l4", ["root"]))
        assert single["product_entries"] is None

    _with_api(work)


def test_a_product_that_is_too_large_is_not_received(tmp_path: Path) -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        connection = Connection(client._transport, VirtualClock(), SeededIds(2), token=TOKEN)
        service = Service(connection)
        path = tmp_path / "product.root"
        plan = await service.describe_slice(m.NewSlice("user:x"))
        with pytest.raises(TooLargeError):
            await service.fetch_product(plan, path, bytes_max=100)
        assert path.stat().st_size == 0
        received = await service.fetch_product(plan, path, bytes_max=1 << 20)
        assert received.total() == path.stat().st_size > 100

    _with_api(work)


def test_a_path_holds_no_nul() -> None:
    async def work(client: httpx2.AsyncClient) -> None:
        for path in ("/v1/datasets/a%00b", "/v1/workers/a%00b/lost", "/v1/%00"):
            assert (await client.get(path, headers=DOOR)).status_code == 404

    _with_api(work)
