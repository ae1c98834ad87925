"""Outputs in stores behind a network: pilots write to them themselves, others read them."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pytest
import uproot

from evstream.assembly import verify_receipt
from tests.federation.security import Security
from tests.s3_gateway import gateway
from tests.spine.commands import CommandLine, wait_until, write_events
from tests.stack import wan, xrootd
from tests.stack.namespaces import namespace

pytestmark = [pytest.mark.server, pytest.mark.root_user, pytest.mark.slow]

ENTRIES, STEP = 400, 100
BALLAST = 100
"""So many numbers an event: an output of a range is too large to go with the report."""


@dataclass
class Store:
    """Where outputs go, and what one must know to write there."""

    url: str
    environment: dict[str, str] = field(default_factory=dict)
    pilot: dict[str, str] = field(default_factory=dict)
    folder: Path = Path()


class Way(Protocol):
    """The way to a store, that can be lost."""

    def cut(self) -> None: ...

    def mend(self) -> None: ...


@dataclass
class Killed:
    """A server that dies, and is started again."""

    server: xrootd.XrootdServer

    def cut(self) -> None:
        self.server.kill()

    def mend(self) -> None:
        self.server.start()


@pytest.fixture(scope="module")
def stores() -> Iterator[dict[str, Store]]:
    with ExitStack() as stack:
        place = stack.enter_context(namespace())
        server = stack.enter_context(xrootd.origin(place))
        bucket = stack.enter_context(gateway())
        yield {
            "root": Store(f"{server.root_url}/outputs"),
            "dav": Store(server.http_url.replace("http://", "dav://") + "/outputs-by-dav"),
            "s3": Store(f"{bucket.url}/outputs", bucket.environment),
        }


def work_through(
    command: CommandLine, folder: Path, store: Store, link: Way | None = None, **more: str
) -> str:
    """Run a task whose outputs go to a store; returns what its pilot said.

    The way to the store is cut before the pilot begins, and mended when all is done.
    """
    data, door = folder / "data", ("--data", folder / "data")
    environment = {"EVSTREAM_OUTPUT_STORE": store.url, **store.environment, **more}
    service = command.serve(data, **environment)
    source = write_events(folder / "a.root", ENTRIES, ballast=BALLAST)
    words = ("--payload", "cp {input} {output}", "--events-per-range", STEP, "--merge")
    task = command.json("submit", source, *words, *door)["id"]
    quick = {"EVSTREAM_PILOT_IDLE_S_MAX": "0", "EVSTREAM_STORE_S_MAX": "1", **store.pilot}
    if link is not None:
        link.cut()
    pilot = command.start("pilot", *door, **quick)
    command.run("status", task, "--watch", *door)
    assert pilot.wait(timeout=120) == 0
    if link is not None:
        link.mend()
    # As a user gets them: through the service, which has been killed since.
    command.end(service)
    command.serve(data, **environment)
    command.run("task", "outputs", task, folder / "results", *door)
    levels = verify_receipt(folder / "results" / "receipt.json")
    assert all(level.holds for level in levels), levels
    counts = json.loads((folder / "results" / "receipt.json").read_text())["counts"]
    assert counts["committed"] == ENTRIES
    with uproot.open(folder / "results" / "merged.root") as merged:
        assert merged["Events"]["event"].array(library="np").tolist() == list(range(ENTRIES))
    return command.said(pilot)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Store]]:
    """Stores that speak nothing but TLS, and ask for tokens."""
    pytest.importorskip("joserfc", reason="joserfc is not installed")
    with ExitStack() as stack:
        place = stack.enter_context(namespace())
        security = Security(tmp_path_factory.mktemp("security"), place, stack)
        server = stack.enter_context(xrootd.origin(place, security.tls, security.tokens))
        server.make_folder("/outputs")
        host = server.host.partition(":")[0]
        # By the name that is in the certificate.
        root = stack.enter_context(wan.link((host, xrootd.ROOT_PORT))).port
        http = stack.enter_context(wan.link((host, xrootd.HTTP_PORT))).port
        trust = {**security.trust, "X509_CERT_FILE": str(security.authority.ca_file)}

        def shown(name: str, scope: str) -> dict[str, str]:
            file = security.for_origin(name, scope)
            return {"EVSTREAM_ORIGIN_TOKENS": f"localhost={file}", **trust}

        service = shown("service", "storage.read:/outputs storage.modify:/outputs")
        pilot = shown("pilot", "storage.create:/outputs")
        yield {
            kind: Store(f"{url}/outputs/{kind}", service, pilot, server.data / "outputs" / kind)
            for kind, url in (
                ("roots", f"roots://localhost:{root}/"),
                ("davs", f"davs://localhost:{http}"),
            )
        }


@pytest.mark.parametrize("kind", ["roots", "davs"])
def test_pilots_write_by_tokens_that_are_for_nothing_else(
    command: CommandLine, tmp_path: Path, secured: dict[str, Store], kind: str
) -> None:
    if kind == "roots":
        pytest.importorskip("XRootD", reason="no wheel of xrootd for this Python")
    store = secured[kind]
    quick = {"EVSTREAM_SWEEP_EVERY_S": "1"}
    assert "goes another way" not in work_through(command, tmp_path, store, **quick)
    # The service's token is for more: what was merged goes.
    wait_until(lambda: len(list(store.folder.rglob("*.root"))) == 1, "the sweep")


def test_pilots_without_a_token_send_to_the_service(
    command: CommandLine, tmp_path: Path, secured: dict[str, Store]
) -> None:
    davs = secured["davs"]
    trust = {"EVSTREAM_CA_FILE": davs.pilot["EVSTREAM_CA_FILE"]}
    untold = Store(f"{davs.url}-untold", davs.environment, trust)
    said = work_through(command, tmp_path, untold)
    assert "goes another way" in said
    assert "answers 403" in said


@pytest.mark.parametrize("kind", ["root", "dav", "s3"])
def test_outputs_go_there_past_the_service(
    command: CommandLine, tmp_path: Path, stores: dict[str, Store], kind: str
) -> None:
    if kind == "root":
        pytest.importorskip("XRootD", reason="no wheel of xrootd for this Python")
    assert "goes another way" not in work_through(command, tmp_path, stores[kind])


def test_where_the_first_store_is_away_they_go_to_the_second(
    command: CommandLine, tmp_path: Path, stores: dict[str, Store]
) -> None:
    host, port = stores["s3"].environment["AWS_ENDPOINT_URL"].removeprefix("http://").split(":")
    with wan.link((host, int(port))) as link:
        by_link = {**stores["s3"].environment, "AWS_ENDPOINT_URL": f"http://{link.address}"}
        first = Store(f"{stores['s3'].url}-first", by_link)
        second = {"EVSTREAM_OUTPUT_STORE_FALLBACK": str(tmp_path / "second")}
        said = work_through(command, tmp_path, first, link, **second)
    assert "goes another way" in said
    assert list((tmp_path / "second" / "tasks").rglob("*.root"))


def test_a_dead_server_of_xrootd_does_not_stop_the_work(
    command: CommandLine, tmp_path: Path
) -> None:
    pytest.importorskip("XRootD", reason="no wheel of xrootd for this Python")
    # Were anything to wait for the dead as for the slow, it would be for an hour.
    patient = {"EVSTREAM_SOURCE_PROGRESS_S": "3600"}
    second = {"EVSTREAM_OUTPUT_STORE_FALLBACK": str(tmp_path / "second")}
    with namespace() as place, xrootd.origin(place) as server:
        first = Store(f"{server.root_url}/outputs", pilot=patient)
        said = work_through(command, tmp_path, first, Killed(server), **second, **patient)
    assert "goes another way" in said
    assert list((tmp_path / "second" / "tasks").rglob("*.root"))
    service = (tmp_path / "process0.log").read_text()
    assert f"{first.url} is away" in service


@dataclass
class Hanging:
    """A pilot whose write to a store does not go on, and who has to do with it."""

    service: subprocess.Popen[bytes]
    pilot: subprocess.Popen[bytes]
    link: wan.Wan
    task: int


@contextmanager
def hanging_write(
    command: CommandLine, tmp_path: Path, store: Store, **pilot: str
) -> Iterator[Hanging]:
    """Have a pilot write an output of one range by a link that falls silent."""
    host, port = store.url.removeprefix("root://").partition("/")[0].split(":")
    data, door = tmp_path / "data", ("--data", tmp_path / "data")
    with wan.link((host, int(port))) as link:
        service = command.serve(
            data, EVSTREAM_OUTPUT_STORE=f"root://{link.address}//silent{len(pilot)}"
        )
        source = write_events(tmp_path / "a.root", ENTRIES, ballast=BALLAST)
        words = ("--payload", "cp {input} {output}", "--events-per-range", ENTRIES)
        task = command.json("submit", source, *words, *door)["id"]
        link.conditions.bytes_per_s = 50e3
        before = link.counts.to_server
        # Each write may wait for an hour.
        patient = {"EVSTREAM_SOURCE_PROGRESS_S": "3600", "EVSTREAM_STORE_S_MAX": "3600"}
        process = command.start("pilot", *door, **{**patient, **pilot})
        wait_until(lambda: link.counts.to_server > before + 50e3, "a write that is under way")
        link.stall()
        yield Hanging(service, process, link, task)


def test_a_pilot_leaves_although_a_store_says_nothing(
    command: CommandLine, tmp_path: Path, stores: dict[str, Store]
) -> None:
    pytest.importorskip("XRootD", reason="no wheel of xrootd for this Python")
    door = ("--data", tmp_path / "data")
    with hanging_write(command, tmp_path, stores["root"], EVSTREAM_DRAIN_S="0") as hanging:
        assert command.end(hanging.pilot, signal.SIGTERM) == 0
        hanging.link.conditions.bytes_per_s = 0.0
        hanging.link.flow()
        done = command.start("pilot", *door, EVSTREAM_PILOT_IDLE_S_MAX="0")
        command.run("status", hanging.task, "--watch", *door)
        assert done.wait(timeout=120) == 0


def test_a_pilot_ends_with_its_error_although_a_store_says_nothing(
    command: CommandLine, tmp_path: Path, stores: dict[str, Store]
) -> None:
    pytest.importorskip("XRootD", reason="no wheel of xrootd for this Python")
    soon = {"EVSTREAM_PILOT_PATIENCE_S": "1", "EVSTREAM_PATIENCE_S": "1", "EVSTREAM_DRAIN_S": "0"}
    with hanging_write(command, tmp_path, stores["root"], **soon) as hanging:
        command.end(hanging.service, signal.SIGKILL)
        wait_until(lambda: "no more work" in command.said(hanging.pilot), "a service given up")
        hanging.pilot.send_signal(signal.SIGTERM)
        # The client of XRootD gives up by itself, but later than that.
        assert hanging.pilot.wait(timeout=60) == 1
        assert "evstream: error: " in command.said(hanging.pilot)
