"""Whoever says that edges lie is believed of one edge an hour, unless they decide about edges."""

from __future__ import annotations

import httpx2

from evstream.assembly import Application
from evstream.client.access import Keys
from evstream.domain.access import Role
from evstream.domain.complaints import BELIEVED_AGAIN, CALLERS_MAX, Complaints
from evstream.testing.virtual_time import EPOCH, VirtualClock
from evstream.wire.messages import NewDataset, NewFile
from tests.unit.web.test_api import with_application
from tests.unit.web.test_fleet import FILES, PFN, beat, held, plan

EDGES = ("lyon", "tokyo", "turin")


def test_a_word_counts_for_one_edge_an_hour() -> None:
    complaints = Complaints()
    assert complaints.believe("p", "a", EPOCH)
    assert complaints.believe("p", "a", EPOCH)
    assert not complaints.believe("p", "b", EPOCH + BELIEVED_AGAIN / 2)
    assert complaints.believe("q", "b", EPOCH + BELIEVED_AGAIN / 2)
    assert complaints.believe("p", "b", EPOCH + BELIEVED_AGAIN)
    assert not complaints.believe("p", "a", EPOCH + BELIEVED_AGAIN)
    complaints.forget("p")
    complaints.forget("p")
    assert complaints.believe("p", "a", EPOCH + BELIEVED_AGAIN)
    for number in range(CALLERS_MAX + 10):
        complaints.believe(f"p{number}", "a", EPOCH)
    assert len(complaints._believed) == CALLERS_MAX


def test_no_pilot_takes_out_all_edges() -> None:
    async def work(application: Application) -> None:
        service = application.client()
        await service.add_dataset(NewDataset([NewFile(PFN)], "mc15:x"))
        for name in EDGES:
            await beat(service, name)
        found = await plan(service)
        for name in EDGES:
            await service.prepared.register(name, held(found))
        transport = httpx2.ASGITransport(application.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:

            async def key(role: Role, name: str) -> str:
                return (await Keys(service._connection).make(role, name)).text

            async def complain(token: str, edge: str) -> bool:
                told = {
                    "url": f"https://{edge}.example.org/v1/products/x",
                    "etag": f'"{found.key}-e1"',
                    "sha256": "b" * 64,
                }
                headers = {"Authorization": f"Bearer {token}"}
                answer = await client.post("/v1/complaints", json=told, headers=headers)
                assert answer.status_code == 200, answer.text
                return bool(answer.json()["quarantined"])

            worker = await key("pilot", "worker-1")
            assert await complain(worker, "lyon")
            assert await complain(worker, "lyon")
            assert not await complain(worker, "tokyo")
            assert not await complain(worker, "turin")
            # Another key of the same name is the same caller.
            assert not await complain(await key("pilot", "worker-1"), "tokyo")
            assert await complain(await key("pilot", "worker-2"), "tokyo")
            edges = {edge.name: edge for edge in await service.prepared.edges()}
            assert edges["turin"].state == "serving"
            assert edges["lyon"].reason.startswith("worker-1: ")
            # Whoever decides about edges need not wait.
            operator = await key("operator", "anna")
            await service.edges.set_state("lyon", "serving")
            assert await complain(operator, "lyon")
            assert await complain(operator, "turin")
            await service.edges.set_state("turin", "serving")
            await VirtualClock().sleep(BELIEVED_AGAIN.total_seconds())
            assert await complain(worker, "turin")
        await service.close()

    with_application(work, FILES)
