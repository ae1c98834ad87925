"""Sources on real origins: XRootD, a cache before it, HTTP, links that break and stall."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from evstream.adapters.formats import KnownFormats
from evstream.adapters.source.fsspec import FsspecOpener
from evstream.adapters.source.memory import MemorySource
from evstream.domain.dataset import Fingerprint, SourceFile
from evstream.domain.errors import (
    AccessError,
    EvstreamError,
    NotFoundError,
    RequestError,
    TransientError,
)
from evstream.domain.names import Guid, Lfn, Pfn
from evstream.domain.source_rules import SourceRules
from evstream.edge.sources import OpenSource, Sources
from evstream.ports.source import SourceOpener
from evstream.testing.contracts import SourceOpenerContract
from evstream.testing.simulator import sample_files
from tests.stack import wan, xrootd
from tests.stack.namespaces import Namespace, namespace

pytestmark = [pytest.mark.server, pytest.mark.root_user]
pytest.importorskip("XRootD", reason="no wheel of xrootd for this Python")

SIZE = 5_000_000
PROGRESS_S = 5
((NAME, EVENTS),) = sample_files(files=1, entries=100).items()
_, INDEX = KnownFormats().inspect(MemorySource(NAME, EVENTS))
END = len(EVENTS) - 100, 100


@pytest.fixture(scope="module")
def place() -> Iterator[Namespace]:
    with namespace() as made:
        yield made


@pytest.fixture(scope="module")
def origin(
    place: Namespace, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[xrootd.XrootdServer]:
    folder = tmp_path_factory.mktemp("content")
    (folder / "content").write_bytes(hashlib.shake_128(b"content").digest(SIZE))
    (folder / "events").write_bytes(EVENTS)
    (folder / "spoilt").write_bytes(b"X" * 5000 + EVENTS[5000:])
    with xrootd.origin(place) as server:
        for name in ("content", "events", "spoilt"):
            server.add(folder / name, f"/some/{name}")
        yield server


@pytest.fixture(scope="module")
def cache(place: Namespace, origin: xrootd.XrootdServer) -> Iterator[xrootd.XrootdServer]:
    with xrootd.cache(place, origin.host) as server:
        yield server


class TestXrootd(SourceOpenerContract):
    @pytest.fixture
    def opener(self) -> SourceOpener:
        return FsspecOpener(progress_s=PROGRESS_S)

    @pytest.fixture
    def put(self, origin: xrootd.XrootdServer, tmp_path: Path) -> Callable[[bytes], str]:
        def put(content: bytes) -> str:
            (tmp_path / "put").write_bytes(content)
            origin.add(tmp_path / "put", "/put/events.root")
            return f"{origin.root_url}/put/events.root"

        return put


def check_scattered(url: str) -> None:
    expected = hashlib.shake_128(b"content").digest(SIZE)
    with FsspecOpener(progress_s=PROGRESS_S).open(url) as source:
        for ranges in (
            [(0, SIZE)],
            # More places than one vector read takes, too far apart to be read together.
            [(offset, 7) for offset in range(0, SIZE, 35_000)] * 2,
            [(number * 2000 + (number % 2) * 40_000, 9) for number in range(2000)],
            [(0, 3_000_000), (4_000_000, 10)],
        ):
            found = source.read_ranges(ranges)
            assert [bytes(data) for data in found] == [
                expected[offset : offset + size] for offset, size in ranges
            ]


def test_an_origin_and_a_cache_before_it(
    origin: xrootd.XrootdServer, cache: xrootd.XrootdServer
) -> None:
    for server in (origin, cache):
        check_scattered(f"{server.root_url}/some/content")
        check_scattered(f"{server.http_url}/some/content")


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/some/none", NotFoundError), ("/some", RequestError), ("", RequestError)],
)
def test_what_is_wrong_is_told(
    origin: xrootd.XrootdServer, path: str, expected: type[EvstreamError]
) -> None:
    url = origin.root_url + path
    opener = FsspecOpener(progress_s=PROGRESS_S)
    with pytest.raises(expected) as caught:
        opener.signature(url)
    assert type(caught.value) is expected
    with pytest.raises(expected), opener.open(url):
        pass


def registered(*pfns: str) -> SourceFile:
    fingerprint = Fingerprint(INDEX.size, INDEX.uuid, INDEX.fingerprint)
    named = tuple(map(Pfn, pfns))
    return SourceFile(Lfn("a"), Guid(INDEX.uuid), named, fingerprint, {"Events": 100})


def sources(progress_s: float = PROGRESS_S) -> Sources:
    return Sources(FsspecOpener(progress_s=progress_s), KnownFormats())


def end_of(opened: OpenSource) -> tuple[str, bytes]:
    return opened.pfn, bytes(opened.source.read_ranges([END])[0])


@pytest.mark.parametrize("scheme", ["root", "http"])
def test_what_a_link_does_to_an_origin(origin: xrootd.XrootdServer, scheme: str) -> None:
    host, port = origin.host.split(":")
    at = (host, int(port) if scheme == "root" else xrootd.HTTP_PORT)
    with wan.link(at) as link:
        path = "//some/events" if scheme == "root" else "/some/events"
        there = Pfn(f"{scheme}://{link.address}{path}")
        file = registered(there, f"{origin.root_url}/some/events")
        opened = sources(60)
        use = opened.use(file)
        assert use.run(end_of) == (there, EVENTS[-100:])

        # A stall costs its own time, and nothing else.
        link.stall()
        got: list[tuple[str, bytes]] = []
        waiting = threading.Thread(target=lambda: got.append(use.run(end_of)))
        waiting.start()
        waiting.join(0.3)
        assert not got
        link.flow()
        waiting.join(60)
        assert got == [(there, EVENTS[-100:])]
        use.close()
        opened.close()

        # One that does not end is left for the other replica.
        hasty = sources(2)
        use = hasty.use(file)
        assert use.run(end_of) == (there, EVENTS[-100:])
        link.stall()
        assert use.run(end_of) == (file.pfns[1], EVENTS[-100:])
        assert not hasty.take_bad()
        link.flow()
        use.close()
        hasty.close()


def test_a_redirect_to_where_nothing_may_be_read_is_refused(origin: xrootd.XrootdServer) -> None:
    with namespace() as elsewhere:
        address = elsewhere.address
        more = f"xrootd.redirect {origin.host} /some\n"
        with xrootd.origin(elsewhere, more=more) as redirector:
            url = f"{redirector.root_url}/some/content"
            both = f"{address}/32 {origin.host.partition(':')[0]}/32"
            for networks, may in ((both, True), (f"{address}/32", False)):
                rules = SourceRules.parse("", networks, own=False)
                opener = FsspecOpener(progress_s=PROGRESS_S, rules=rules)
                if may:
                    with opener.open(url) as source:
                        assert source.size == SIZE
                    continue
                with pytest.raises(AccessError, match="leads elsewhere"), opener.open(url):
                    pass


def test_a_replica_of_other_bytes_is_passed_over_and_told_of(origin: xrootd.XrootdServer) -> None:
    spoilt, good = f"{origin.root_url}/some/spoilt", f"{origin.root_url}/some/events"
    opened = sources()
    assert opened.use(registered(spoilt, good)).run(end_of) == (good, EVENTS[-100:])
    assert [bad.pfn for bad in opened.take_bad()] == [spoilt]


def test_all_that_is_wrong_is_told_at_once(origin: xrootd.XrootdServer) -> None:
    nobody = "root://127.0.0.1:9//some/events"
    none = f"{origin.root_url}/some/none"
    with pytest.raises(TransientError) as caught:
        sources(2).use(registered(nobody, none)).run(end_of)
    assert f"{nobody}: " in caught.value.message
    assert f"there is no file {none}" in caught.value.message


def test_ipv6_literals_are_addresses(tmp_path: Path) -> None:
    (tmp_path / "events").write_bytes(EVENTS)

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, directory=str(tmp_path), **options)  # type: ignore[arg-type]

        def log_message(self, *arguments: object) -> None:
            """Keep quiet."""

    try:
        server = Server(("::1", 0), Handler)
    except OSError:
        pytest.skip("this machine has no IPv6")
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        url = f"http://[::1]:{server.server_port}/events"
        try:
            assert sources().use(registered(url)).run(end_of) == (url, EVENTS[-100:])
        finally:
            server.shutdown()
            thread.join()
