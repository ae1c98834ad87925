"""Plans, sites, links and foreign ranges over HTTP, through the client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from xml.etree import ElementTree as ET

import httpx2
import pytest

from evstream.assembly import Application
from evstream.client import Service
from evstream.domain.edges import EdgeStatus
from evstream.domain.errors import NotFoundError, RequestError
from evstream.domain.names import LeaseId
from evstream.domain.payload import Payload
from evstream.domain.secondary import Secondary
from evstream.domain.sites import Site
from evstream.head.brokering import WRITE_EVERY_S
from evstream.testing.simulator import sample_files
from evstream.wire import delivery_messages as m
from evstream.wire import messages, work_messages
from evstream.wire import product_messages as pm
from evstream.wire.edge_messages import EdgeBeat
from evstream.wire.messages import NewDataset, NewFile, NewSlice
from tests.unit.web.test_api import TOKEN, with_application

FILES = sample_files(files=2, entries=100)
PFNS = list(FILES)


def with_service(work: Callable[[Service], Awaitable[None]]) -> None:
    """Run some work against a service in memory that has two files, and an edge that beats."""

    async def ask(application: Application) -> None:
        service = application.client()
        await service.add_dataset(NewDataset([NewFile(pfn) for pfn in PFNS], "mc15:x"))
        beat = pm.Beat("https://near", capacity_bytes=10**9, life_s=60.0)
        await service.prepared.beat("near", beat)
        await work(service)
        await service.close()

    with_application(ask, FILES)


async def names(service: Service) -> list[tuple[str, str]]:
    """Return LFN and GUID of the files."""
    dataset = await service.dataset("mc15:x")
    return [(file.lfn, file.guid) for file in dataset.files]


def foreign(lfn: str, start: int = 10, stop: int = 20, **more: Any) -> m.ForeignRange:
    return m.ForeignRange(lfn, start, stop, **more)


async def ask(service: Service, *ranges: m.ForeignRange, **more: Any) -> list[m.ForeignAnswer]:
    return await service.plans.foreign_ranges(m.ForeignRequest(list(ranges), **more))


def test_a_plan_is_explained() -> None:
    async def work(service: Service) -> None:
        ((lfn, _), _) = await names(service)
        asked = m.NewPlan([NewSlice("mc15:x", lfn, "", 0, 50)], explain=True)
        (plan,) = await service.plans.plan(asked)
        (choice,) = plan.choices
        assert (choice.edge, choice.home, choice.held, choice.refused) == ("near", True, False, "")
        terms = choice.trips_s + choice.queue_s + choice.transfer_s + choice.making_s
        assert choice.seconds == pytest.approx(terms + choice.room_s + choice.away_s)
        assert plan.estimate == pytest.approx(len(FILES[PFNS[0]]) / 2, abs=1)
        assert plan.name.startswith("a") or plan.name.endswith(".root")
        assert plan.endpoints
        assert (plan.size, plan.sha256) == (0, "")

    with_service(work)


def test_what_an_edge_holds_is_known_by_size_and_hash() -> None:
    async def work(service: Service) -> None:
        ((lfn, _), _) = await names(service)
        cut = (await service.describe_slice(NewSlice("mc15:x", lfn, "", 0, 50))).descriptor
        held = pm.HeldProduct(cut, "e1", 4321, "cd" * 32)
        await service.prepared.register("near", pm.HeldProducts([held]))
        (plan,) = await service.plans.plan(m.NewPlan(descriptors=[cut], explain=True))
        assert (plan.size, plan.sha256) == (4321, "cd" * 32)
        assert plan.choices[0].held
        assert plan.choices[0].reason == "holds it"

    with_service(work)


@pytest.mark.parametrize("asked", [m.NewPlan(), m.NewPlan(descriptors=[{}])])
def test_what_cannot_be_planned_is_refused(asked: m.NewPlan) -> None:
    async def work(service: Service) -> None:
        with pytest.raises(RequestError):
            await service.plans.plan(asked)

    with_service(work)


def test_a_descriptor_without_sources_is_refused() -> None:
    async def work(service: Service) -> None:
        ((lfn, _), _) = await names(service)
        cut = (await service.describe_slice(NewSlice("mc15:x", lfn))).descriptor
        for sources in ([], [{**cut["sources"][0], "entries": []}]):
            with pytest.raises(RequestError, match="no entries"):
                await service.plans.plan(m.NewPlan(descriptors=[{**cut, "sources": sources}]))

    with_service(work)


@pytest.mark.parametrize("kind", ["application/metalink4+xml", "application/xml"])
def test_other_software_gets_whole_urls(kind: str) -> None:
    async def work(application: Application) -> None:
        service = application.client()
        await service.add_dataset(NewDataset([NewFile(PFNS[0])], "mc15:x"))
        await service.close()
        transport = httpx2.ASGITransport(application.app)
        headers = {"Authorization": f"Bearer {TOKEN}", "Accept": kind}
        async with httpx2.AsyncClient(
            transport=transport, base_url="https://head.example.org:1234", headers=headers
        ) as client:
            body = messages.encode(m.NewPlan([NewSlice("mc15:x", "", "", 0, 50)]))
            answer = await client.post(
                "/v1/plans", content=body, headers={"Content-Type": "application/json"}
            )
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].partition(";")[0] == kind
        assert "https://head.example.org:1234/v1/products/" in answer.text
        ET.fromstring(answer.text)

    with_application(work, FILES)


def test_sites_are_kept() -> None:
    async def work(service: Service) -> None:
        await service.plans.add_site("LYON", m.NewSite("FR", 45.78, 4.87))
        await service.plans.add_site("CERN", m.NewSite())
        assert await service.plans.sites() == [Site("CERN"), Site("LYON", "FR", 45.78, 4.87)]
        await service.plans.remove_site("CERN")
        with pytest.raises(NotFoundError):
            await service.plans.remove_site("CERN")
        for wrong in (m.NewSite("fr"), m.NewSite("FR", 91.0, 0.0), m.NewSite("FR", 45.0)):
            with pytest.raises(RequestError):
                await service.plans.add_site("X", wrong)
        with pytest.raises(RequestError):
            await service.plans.add_site("a b", m.NewSite())

    with_service(work)


def test_what_was_measured_is_told_in_time() -> None:
    async def work(service: Service) -> None:
        seen = [
            m.SeenLink("LYON", "near", trips=3, trips_s=0.3),
            m.SeenLink("LYON", "https://near/v1/products/ab", bytes=1e9, seconds=10.0),
            m.SeenLink("LYON", "https://nearer", trips=3, trips_s=0.3),
        ]
        assert await service.plans.note_links(m.SeenLinks(seen)) == 2
        # Heads write seldom; here time passes at once.
        await asyncio.sleep(WRITE_EVERY_S)
        await service.plans.links()
        (link,) = await service.plans.links()
        assert (link.site, link.edge) == ("LYON", "near")
        assert (link.trips, link.seconds) == (3.0, 10.0)
        assert 0.06 < link.trip_s < 0.1

    with_service(work)


def test_a_foreign_range_is_found_by_its_file() -> None:
    async def work(service: Service) -> None:
        (lfn, guid), _ = await names(service)
        by_name, by_all = await ask(
            service,
            foreign(lfn, id="r1"),
            foreign(lfn, id="r2", scope="mc15", guid=guid.upper()),
        )
        assert (by_name.id, by_all.id) == ("r1", "r2")
        for answer in (by_name, by_all):
            assert (answer.dataset, answer.guid, answer.code) == ("mc15:x", guid, "")
            (match,) = answer.matches
            assert (match.entry_start, match.entry_stop) == (0, 10)
            assert match.exact
            assert not match.prepared
            entries = match.plan.descriptor["sources"][0]["entries"]
            assert entries == [[10, 20]]
            assert match.plan.endpoints

    with_service(work)


def test_pandas_ranges_are_taken_as_they_come() -> None:
    async def work(service: Service) -> None:
        (lfn, guid), _ = await names(service)
        told = {
            "eventRangeID": "1-2-3-1-10",
            "startEvent": 11,
            "lastEvent": 20,
            "LFN": lfn,
            "GUID": guid,
            "scope": "mc15",
        }
        request = m.ForeignRequest(panda=[told])
        (answer,) = await service.plans.foreign_ranges(request)
        assert answer.id == "1-2-3-1-10"
        assert answer.matches[0].plan.descriptor["sources"][0]["entries"] == [[10, 20]]

    with_service(work)


def test_one_range_that_cannot_be_delivered_stops_no_other() -> None:
    async def work(service: Service) -> None:
        (lfn, _), _ = await names(service)
        answers = await ask(
            service,
            foreign("none.root"),
            foreign(lfn, scope="mc16"),
            foreign(lfn, guid="00000000-0000-0000-0000-000000000000"),
            foreign(lfn, 90, 101),
            foreign(lfn, 20, 20),
            foreign(lfn),
        )
        codes = ["not_found", "not_found", "conflict", "request_invalid", "request_invalid", ""]
        found = [answer.code for answer in answers]
        assert found[:3] == codes[:3]
        assert found[3] == found[4] != ""
        assert found[5] == ""
        assert all(answer.detail and answer.hint for answer in answers[:4])

    with_service(work)


def test_what_is_prepared_comes_first() -> None:
    async def work(service: Service) -> None:
        (lfn, _), _ = await names(service)
        wide = (await service.describe_slice(NewSlice("mc15:x", lfn, "", 5, 40))).descriptor
        held = pm.HeldProduct(wide, "e1", 100, "0" * 64)
        await service.prepared.register("near", pm.HeldProducts([held]))
        (answer,) = await ask(service, foreign(lfn))
        best, cut = answer.matches
        assert (best.prepared, best.exact, best.entry_start, best.entry_stop) == (
            True,
            False,
            5,
            15,
        )
        assert best.plan.size == 100
        assert (cut.prepared, cut.exact) == (False, True)
        exact = (await service.describe_slice(NewSlice("mc15:x", lfn, "", 10, 20))).descriptor
        held = pm.HeldProduct(exact, "e1", 50, "1" * 64)
        await service.prepared.register("near", pm.HeldProducts([held]))
        (answer,) = await ask(service, foreign(lfn))
        (best,) = answer.matches
        assert (best.prepared, best.exact) == (True, True)

    with_service(work)


def test_two_files_of_one_name_are_told_apart_by_their_guids() -> None:
    async def work(service: Service) -> None:
        (lfn, guid), _ = await names(service)
        other = NewFile(PFNS[1], lfn)
        await service.add_dataset(NewDataset([other], "user:y"))
        (unclear, clear, scoped) = await ask(
            service, foreign(lfn), foreign(lfn, guid=guid), foreign(lfn, scope="user")
        )
        assert unclear.code == "conflict"
        assert clear.dataset == "mc15:x"
        assert scoped.dataset == "user:y"

    with_service(work)


@pytest.mark.parametrize("wrong", [m.ForeignRequest(), m.ForeignRequest(panda=[{}])])
def test_what_is_no_question_is_refused(wrong: m.ForeignRequest) -> None:
    async def work(service: Service) -> None:
        with pytest.raises(RequestError):
            await service.plans.foreign_ranges(wrong)

    with_service(work)


async def two_edges(service: Service) -> None:
    """Let two edges beat, far from each other."""
    await service.plans.add_site("LYON", m.NewSite("FR", 45.78, 4.87))
    await service.plans.add_site("TOKYO", m.NewSite("JP", 35.71, 139.76))
    await service.prepared.remove_edge("near")
    for name in ("LYON", "TOKYO"):
        status = EdgeStatus(site=name, free_bytes=10**9)
        beat = EdgeBeat(f"https://{name.lower()}", 20.0, 10**9, status)
        await service.edges.beat(name.lower(), beat)
    # Sites are read every some seconds; here time passes at once.
    await asyncio.sleep(WRITE_EVERY_S)


def hosts(urls: list[str]) -> list[str]:
    return [url.removeprefix("https://").partition("/")[0] for url in urls]


def test_a_claim_names_the_edges_that_are_near() -> None:
    async def work(service: Service) -> None:
        await two_edges(service)
        payload = Payload(command="cp {input} {output}")
        task = messages.NewTask(name="near", dataset="mc15:x", payload=payload)
        await service.submit(task, "key")
        for site, nearest in (("TOKYO", "tokyo"), ("LYON", "lyon")):
            request = work_messages.ClaimRequest("w1", 1, site=site)
            claim = await service.claim(request, LeaseId(f"lease-{site}"))
            assert claim.units
            for unit in claim.units:
                assert isinstance(unit, work_messages.RangeUnit)
                first, second, own = unit.parts[0].plan.urls
                assert hosts([first])[0] == nearest
                assert {*hosts([first, second])} == {"lyon", "tokyo"}
                # Where all fail, the service itself has it.
                assert own.startswith("/v1/products/")

    with_service(work)


def test_a_unit_is_told_what_is_known_of_all_its_inputs() -> None:
    async def work(service: Service) -> None:
        payload = Payload(command="cat {input} {secondary:pu} >{output}")

        async def plans(number: int) -> list[messages.DeliveryPlan]:
            task = messages.NewTask(
                name="mixed",
                dataset="mc15:x",
                payload=payload,
                secondary=[Secondary("pu", "mc15:x")],
            )
            id_ = (await service.submit(task, f"key-{number}")).id
            request = work_messages.ClaimRequest("w1", 1, task=id_)
            (unit,) = (await service.claim(request, LeaseId(f"lease-{number}"))).units
            assert isinstance(unit, work_messages.RangeUnit)
            (part,) = unit.parts
            return [part.plan, *part.secondary[0].plans]

        for plan in await plans(1):
            assert plan.sha256 == ""
            held = pm.HeldProduct(plan.descriptor, "e1", 4321, "cd" * 32)
            await service.prepared.register("near", pm.HeldProducts([held]))
        again = await plans(2)
        assert len(again) >= 2
        assert {plan.sha256 for plan in again} == {"cd" * 32}

    with_service(work)


def test_a_plan_says_where_its_endpoints_are() -> None:
    async def work(service: Service) -> None:
        await two_edges(service)
        ((lfn, _), _) = await names(service)
        new = m.NewPlan([NewSlice("mc15:x", lfn, "", 0, 50)], site="TOKYO", explain=True)
        (plan,) = await service.plans.plan(new)
        assert [(one.site, one.country) for one in plan.endpoints] == [
            ("TOKYO", "JP"),
            ("LYON", "FR"),
            ("", ""),
        ]
        assert [choice.edge for choice in plan.choices] == ["tokyo", "lyon"]
        # What is held counts more than the way to it, if that is not too long.
        held = pm.HeldProduct(plan.descriptor, "e1", 100, "0" * 64)
        await service.prepared.register("lyon", pm.HeldProducts([held]))
        await service.edges.set_state("tokyo", "maintenance", "a new disk")
        await asyncio.sleep(1.0)
        (plan,) = await service.plans.plan(new)
        reasons = [(choice.edge, choice.reason) for choice in plan.choices]
        assert reasons == [("lyon", "holds it"), ("tokyo", "maintenance: a new disk")]

    with_service(work)
