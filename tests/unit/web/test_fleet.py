"""Edges and their head over HTTP: beats, states, complaints, and who is sent where."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest

from evstream.assembly import Application
from evstream.assembly.making import opinion_of
from evstream.client import Service
from evstream.domain.dataset import Fingerprint
from evstream.domain.descriptor import Descriptor
from evstream.domain.edges import EdgeState, EdgeStatus
from evstream.domain.errors import (
    AccessError,
    ConflictError,
    DescriptorUnknownError,
    NotFoundError,
    RequestError,
    TransientError,
)
from evstream.domain.names import ProductKey
from evstream.domain.products import PreparedProduct
from evstream.head.judging import TRIES, Judging
from evstream.testing.simulator import sample_files
from evstream.testing.virtual_time import EPOCH, VirtualClock
from evstream.wire import product_messages as pm
from evstream.wire.edge_messages import BeatAnswer, Complaint, EdgeBeat, Judged
from evstream.wire.messages import DeliveryPlan, NewDataset, NewFile, NewSlice
from evstream.wire.product_messages import HeldProduct, HeldProducts, NewReplica, NewReplicas
from evstream.wire.signed_urls import GivenKeys, UrlSigner, source_from_query
from tests.unit.web.test_api import with_application

FILES = sample_files(files=1, entries=100)
((PFN, _),) = FILES.items()
BEAT_S = 5.0
NONE = cast("Any", None)


def with_service(work: Callable[[Service], Awaitable[None]]) -> None:
    """Run some work against a service in memory that has one file."""

    async def ask(application: Application) -> None:
        service = application.client()
        await service.add_dataset(NewDataset([NewFile(PFN)], "mc15:x"))
        await work(service)
        await service.close()

    with_application(ask, FILES)


async def beat(service: Service, name: str) -> BeatAnswer:
    told = EdgeBeat(f"https://{name}.example.org/", BEAT_S, 10**9, EdgeStatus(site=name))
    return await service.edges.beat(name, told)


async def plan(service: Service) -> DeliveryPlan:
    """Return a plan that was made with what is known now."""
    await VirtualClock().sleep(1.5)
    return await service.describe_slice(NewSlice("mc15:x", entry_start=0, entry_stop=10))


def hosts(found: DeliveryPlan) -> set[str]:
    return {urlsplit(url).hostname or "" for url in found.urls} - {""}


def held(found: DeliveryPlan, byte: str = "a") -> HeldProducts:
    return HeldProducts([HeldProduct(found.descriptor, "e1", 100, byte * 64)])


def test_an_edge_is_lost_after_three_beats() -> None:
    async def work(service: Service) -> None:
        await beat(service, "lyon")
        assert hosts(await plan(service)) == {"lyon.example.org"}
        await VirtualClock().sleep(2 * BEAT_S - 1.5)
        assert hosts(await plan(service)) == {"lyon.example.org"}
        await VirtualClock().sleep(BEAT_S)
        assert hosts(await plan(service)) == set()
        (edge,) = await service.prepared.edges()
        assert edge.status.site == "lyon"
        await beat(service, "lyon")
        assert hosts(await plan(service)) == {"lyon.example.org"}

    with_service(work)


@pytest.mark.parametrize(
    ("state", "is_sent_to"),
    [("serving", True), ("draining", False), ("maintenance", False), ("quarantined", False)],
)
def test_nobody_new_is_sent_to_an_edge_that_is_taken_out(
    state: EdgeState, is_sent_to: bool
) -> None:
    async def work(service: Service) -> None:
        await beat(service, "lyon")
        assert (await service.edges.set_state("lyon", state, "why")).reason == "why"
        assert (await beat(service, "lyon")).edge.state == state
        assert bool(hosts(await plan(service))) == is_sent_to
        await service.edges.set_state("lyon", "serving")
        assert hosts(await plan(service)) == {"lyon.example.org"}
        with pytest.raises(NotFoundError):
            await service.edges.set_state("tokyo", state)

    with_service(work)


def test_each_edge_takes_urls_that_are_signed_for_it_and_no_others() -> None:
    async def work(service: Service) -> None:
        signers = {}
        for name in ("lyon", "tokyo"):
            answer = await beat(service, name)
            keys = {one.epoch: bytes.fromhex(one.key) for one in answer.keys}
            signers[f"{name}.example.org"] = UrlSigner(GivenKeys(keys))
        urls = (await plan(service)).urls
        # The head, which knows better by then, comes last.
        assert urls[-1].startswith("/v1/products/")
        for url in urls[:-1]:
            parts = urlsplit(url)
            query = dict(parse_qsl(parts.query))
            assert source_from_query(query["f"]).pfns == (PFN,)
            for host, signer in signers.items():
                check = (signer, "GET", parts.path, query, EPOCH + timedelta(seconds=9))
                if host == parts.hostname:
                    UrlSigner.check(*check)
                    forged = {**query, "f": query["f"][:-1] + "A"}
                    with pytest.raises(AccessError):
                        signer.check("GET", parts.path, forged, EPOCH)
                else:
                    with pytest.raises(AccessError):
                        UrlSigner.check(*check)

    with_service(work)


def test_other_bytes_put_whoever_tells_of_them_into_quarantine() -> None:
    async def work(service: Service) -> None:
        await beat(service, "lyon")
        await beat(service, "tokyo")
        found = await plan(service)
        await service.prepared.register("lyon", held(found))
        with pytest.raises(ConflictError):
            await service.prepared.register("tokyo", held(found, "b"))
        assert (await beat(service, "tokyo")).edge.state == "quarantined"
        assert hosts(await plan(service)) == {"lyon.example.org"}

    with_service(work)


def test_a_complaint_counts_if_other_bytes_are_known() -> None:
    async def work(service: Service) -> None:
        await beat(service, "lyon")
        found = await plan(service)
        url, etag = "https://lyon.example.org/v1/products/x", f'"{found.key}-e1"'

        async def complain(sha256: str, etag: str = etag, url: str = url) -> bool:
            return (await service.edges.complain(Complaint(url, etag, sha256 * 64))).quarantined

        assert not await complain("b")  # Nothing is known of it.
        await service.prepared.register("lyon", held(found))
        assert not await complain("a")
        for odd in ("", "x", f'"{found.key}-e2"', f'"{found.key}"', "-", "é" * 64):
            assert not await complain("b", odd)
        assert not await complain("b", url="https://lyon.example.org.evil/x")
        assert not await complain("b", url="https://tokyo.example.org/x")
        (edge,) = await service.prepared.edges()
        assert edge.state == "serving"
        assert await complain("b")
        (edge,) = await service.prepared.edges()
        assert edge.state == "quarantined"
        assert "sha256 bbbb" in edge.reason

    with_service(work)


def test_edges_are_told_of_sources_and_descriptors() -> None:
    async def work(service: Service) -> None:
        await beat(service, "lyon")
        found = await plan(service)
        (piece,) = found.descriptor["sources"]
        fingerprint = Fingerprint(**piece["fingerprint"])
        copies = [
            NewReplica("sample-0.root", "root://ok//a.root", "a"),
            NewReplica("sample-0.root", "root://bad//a.root", "b", "bad"),
        ]
        await service.prepared.add_replicas(NewReplicas("mc15:x", copies))
        source = await service.edges.source(fingerprint)
        assert source.pfns == (PFN, "root://ok//a.root")
        assert source.fingerprint == fingerprint
        with pytest.raises(NotFoundError):
            await service.edges.source(Fingerprint(1, "u", "d" * 64))
        assert (await service.edges.descriptor(ProductKey(found.key))).key == found.key
        with pytest.raises(DescriptorUnknownError):
            await service.edges.descriptor(ProductKey("0" * 64))
        with pytest.raises(RequestError):
            await service.edges.descriptor(ProductKey("x"))

    with_service(work)


def test_what_an_edge_holds_comes_in_pages() -> None:
    async def work(service: Service) -> None:
        await beat(service, "lyon")
        keys = set()
        for start in range(0, 50, 10):
            slice_ = NewSlice("mc15:x", entry_start=start, entry_stop=start + 10)
            found = await service.describe_slice(slice_)
            await service.prepared.register("lyon", held(found))
            keys.add(found.key)
        page = await service.prepared.held("lyon")
        assert {one.key for one in page.items} == keys
        assert page.next is None
        assert all(isinstance(one, pm.ProductName) for one in page.items)
        assert (await service.prepared.held("lyon", 1)).items != page.items

    with_service(work)


def with_two_edges(work: Callable[[Application, Service, DeliveryPlan], Awaitable[None]]) -> None:
    """Run some work against a service that has made no product, and two edges."""

    async def ask(application: Application) -> None:
        service = application.client()
        await service.add_dataset(NewDataset([NewFile(PFN)], "mc15:x"))
        await beat(service, "lyon")
        await beat(service, "tokyo")
        await work(application, service, await plan(service))
        await service.close()

    with_application(ask, FILES)


async def made_here(application: Application, found: DeliveryPlan) -> HeldProduct:
    """Return a product as it has to be."""
    descriptor = Descriptor.from_wire(found.descriptor)
    product = await application._products.product(descriptor)
    pieces = [piece async for piece in application._products.read(product, 0, product.size)]
    digest = hashlib.sha256(b"".join(pieces)).hexdigest()
    encoder = product.identity.encoder_id
    return HeldProduct(found.descriptor, encoder, product.size, digest)


async def states(service: Service) -> dict[str, str]:
    return {edge.name: edge.state for edge in await service.prepared.edges()}


@pytest.mark.parametrize("wrong", ["lyon", "tokyo"])
def test_of_two_edges_that_disagree_the_wrong_one_goes_whoever_came_first(wrong: str) -> None:
    async def work(application: Application, service: Service, found: DeliveryPlan) -> None:
        right = await made_here(application, found)
        lie = msgspec.structs.replace(right, sha256="0" * 64)
        told = {"lyon": right, "tokyo": right, wrong: lie}
        await service.prepared.register("lyon", HeldProducts([told["lyon"]]))
        if wrong == "tokyo":
            with pytest.raises(ConflictError):
                await service.prepared.register("tokyo", HeldProducts([told["tokyo"]]))
        else:
            await service.prepared.register("tokyo", HeldProducts([told["tokyo"]]))
            (place,) = (await service.prepared.held("tokyo")).items
            assert place.key == found.key
        other = {"lyon": "tokyo", "tokyo": "lyon"}[wrong]
        assert await states(service) == {wrong: "quarantined", other: "serving"}
        judged = "holder" if wrong == "lyon" else "teller"
        counted = f'evstream_conflicts_total{{wrong="{judged}"}} 1.0'
        assert counted in application.metrics.text().decode()

    with_two_edges(work)


def test_who_contradicts_itself_is_wrong() -> None:
    async def work(application: Application, service: Service, found: DeliveryPlan) -> None:
        right = await made_here(application, found)
        lie = msgspec.structs.replace(right, sha256="0" * 64)
        with pytest.raises(ConflictError):
            await service.prepared.register("tokyo", HeldProducts([right, lie]))
        assert await states(service) == {"lyon": "serving", "tokyo": "quarantined"}

    with_two_edges(work)


def test_a_source_that_is_away_delays_the_judgement_and_does_not_prevent_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def work(application: Application, service: Service, found: DeliveryPlan) -> None:
        right = await made_here(application, found)
        lie = msgspec.structs.replace(right, sha256="0" * 64)
        await service.prepared.register("lyon", HeldProducts([lie]))

        async def away(*_: object) -> None:
            raise TransientError("the origin does not answer")

        monkeypatch.setattr(application._products, "identity", away)
        told = HeldProducts([right])
        judging = Judging(application._parts.products, opinion_of(application._products, NONE))
        products = [
            PreparedProduct(
                Descriptor.from_wire(one.descriptor), one.encoder_id, one.size, one.sha256
            )
            for one in told.products
        ]
        for _ in range(TRIES - 1):
            with pytest.raises(TransientError):
                await judging.register("tokyo", products, None)
        assert await states(service) == {"lyon": "serving", "tokyo": "serving"}
        # Then whoever told of it last has to go: an operator looks.
        with pytest.raises(ConflictError):
            await judging.register("tokyo", products, None)
        assert await states(service) == {"lyon": "serving", "tokyo": "quarantined"}
        assert judging.judged == {"teller": 0, "holder": 0, "unknown": 1}

    with_two_edges(work)


@pytest.mark.parametrize("registered", ["right", "wrong"])
def test_an_edge_that_sends_the_right_bytes_stays_whatever_another_has_told(
    registered: str,
) -> None:
    async def work(application: Application, service: Service, found: DeliveryPlan) -> None:
        assert (found.etag, found.sha256) == ("", "")
        right = await made_here(application, found)
        lie = "0" * 64
        known = right.sha256 if registered == "right" else lie
        told = msgspec.structs.replace(right, sha256=known)
        await service.prepared.register("lyon", HeldProducts([told]))
        etag = f'"{found.key}-{right.encoder_id}"'
        assert ((await plan(service)).etag, (await plan(service)).sha256) == (etag, known)
        sent = lie if registered == "right" else right.sha256
        url = "https://tokyo.example.org/v1/products/x"
        judged = await service.edges.complain(Complaint(url, etag, sent))
        wrong, other = ("tokyo", "lyon") if registered == "right" else ("lyon", "tokyo")
        assert await states(service) == {wrong: "quarantined", other: "serving"}
        assert judged == Judged(wrong == "tokyo", right.sha256)

    with_two_edges(work)


@pytest.mark.parametrize("lies", [True, False])
def test_that_an_edge_told_of_another_product_s_bytes_does_not_make_them_right(lies: bool) -> None:
    async def work(application: Application, service: Service, found: DeliveryPlan) -> None:
        right = await made_here(application, found)
        known = "0" * 64 if lies else right.sha256
        told = msgspec.structs.replace(right, sha256=known)
        await service.prepared.register("lyon", HeldProducts([told]))
        etag, url = f'"{found.key}-{right.encoder_id}"', "https://lyon.example.org/v1/products/x"
        assert not (await service.edges.complain(Complaint(url, etag, known))).quarantined
        judged = await service.edges.complain(Complaint(url, etag, known, is_other=True))
        assert judged == Judged(lies, right.sha256)
        assert (await states(service))["lyon"] == ("quarantined" if lies else "serving")

    with_two_edges(work)
