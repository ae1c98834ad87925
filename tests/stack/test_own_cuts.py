"""Pilots that cut by themselves, out of sources on real origins, where there is no edge."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from obstore.store import S3Store

from evstream.adapters.clock import SystemClock
from evstream.adapters.formats import KnownFormats
from evstream.adapters.offload import Threads
from evstream.adapters.source.fsspec import FsspecOpener
from evstream.assembly import connect
from evstream.client import Address
from evstream.domain.descriptor import Descriptor
from evstream.edge import OwnCuts
from evstream.wire.messages import NewDataset, NewFile, NewSlice
from tests.s3_gateway import gateway
from tests.spine.commands import CommandLine, wait_until, write_events
from tests.spine.web_server import serving
from tests.stack import xrootd
from tests.stack.namespaces import Namespace, namespace

pytestmark = [pytest.mark.server, pytest.mark.root_user]
pytest.importorskip("XRootD", reason="no wheel of xrootd for this Python")

ENTRIES = 3_000
NETWORKS = {"EVSTREAM_SOURCE_NETWORKS": "any"}


@pytest.fixture
def command(tmp_path: Path) -> Iterator[CommandLine]:
    made = CommandLine(tmp_path)
    yield made
    made.end_all()


@pytest.fixture(scope="module")
def place() -> Iterator[Namespace]:
    with namespace() as made:
        yield made


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_events(tmp_path_factory.mktemp("events") / "a.root", ENTRIES, ballast=50)


@pytest.fixture(scope="module")
def origin(place: Namespace, events: Path) -> Iterator[xrootd.XrootdServer]:
    with xrootd.origin(place) as server:
        server.add(events, "/some/a.root")
        yield server


async def compare(data: Path, url: str, folder: Path) -> None:
    """Compare cuts of one's own with what the head sends, and see how much was read for them."""
    service = connect(Address.read(data), patience_s=10.0)
    offload = Threads(4)
    cuts = OwnCuts(service.edges, FsspecOpener(), KnownFormats(), offload, SystemClock(), 4)
    try:
        await service.add_dataset(NewDataset([NewFile(url)], "user:x"))
        lfn = (await service.prepared.replicas("user:x"))[0].lfn
        for start, stop in [(0, ENTRIES), (0, 600), (500, 1300), (2999, 3000)]:
            plan = await service.describe_slice(NewSlice("user:x", lfn, "", start, stop))
            descriptor = Descriptor.from_wire(plan.descriptor)
            made = await cuts.cut(descriptor, folder / "mine")
            await service.fetch_product(plan, folder / "heads")
            product = (folder / "mine").read_bytes()
            assert product == (folder / "heads").read_bytes()
            assert made.read < 1.05 * len(product) + 100_000
    finally:
        assert await cuts.close()
        offload.close()
        await service.close()


@pytest.mark.parametrize("kind", ["root", "http"])
def test_cuts_out_of_xrootd(
    command: CommandLine, tmp_path: Path, origin: xrootd.XrootdServer, kind: str
) -> None:
    command.serve(tmp_path / "data", **NETWORKS)
    url = origin.root_url if kind == "root" else origin.http_url
    asyncio.run(compare(tmp_path / "data", f"{url}/some/a.root", tmp_path))


def test_cuts_out_of_an_object_store(
    command: CommandLine, tmp_path: Path, events: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gateway() as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        store = S3Store.from_url(running.url, client_options={"allow_http": True})
        store.put("some/a.root", events.read_bytes())
        command.serve(tmp_path / "data", **NETWORKS, **running.environment)
        asyncio.run(compare(tmp_path / "data", f"{running.url}/some/a.root", tmp_path))


def test_a_pilot_leaves_although_a_source_says_nothing(
    command: CommandLine, tmp_path: Path, events: Path
) -> None:
    data, door = tmp_path / "data", ("--data", tmp_path / "data")
    silent = tmp_path / "silent"
    with serving(events.parent, silent=silent) as url:
        command.serve(data, **NETWORKS)
        command.run("dataset", "add", "user:x", f"{url}/a.root", *door)
        words = ("--payload", "cp {input} {output}", "--events-per-range", 500)
        task = command.json("submit", "user:x", *words, *door)["id"]
        silent.touch()
        try:
            pilot = command.start("pilot", *door, EVSTREAM_SOURCE_PROGRESS_S="3600")
            wait_until(lambda: silent.read_text() == "asked", "a read that is not answered")
            # It would take an hour, were it to wait for the thread that reads.
            assert command.end(pilot, signal.SIGTERM) == 0
        finally:
            silent.unlink()
        done = command.run("pilot", *door, "--json", env={"EVSTREAM_PILOT_IDLE_S_MAX": "0"})
        assert json.loads(done.stdout)["units_done"] == ENTRIES / 500
        assert command.json("status", task, *door)["state"] == "done"
