"""The real parts that the federation's tests stand on: each starts here, serves and ends."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.stack import nginx, wan, xrootd
from tests.stack.namespaces import Namespace, namespace
from tests.stack.processes import wait_until

pytestmark = [pytest.mark.server, pytest.mark.root_user]
SIZE = 3_000_000


@pytest.fixture(scope="module")
def place() -> Iterator[Namespace]:
    with namespace() as made:
        yield made


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("content") / "content"
    path.write_bytes(hashlib.shake_128(b"content").digest(SIZE))
    return path


@pytest.fixture(scope="module")
def origin(place: Namespace, content: Path) -> Iterator[xrootd.XrootdServer]:
    with xrootd.origin(place) as server:
        server.add(content, "/some/content")
        yield server


def fetch(url: str, **headers: str) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
        return bytes(answer.read())


def test_an_origin_serves_http_and_root(origin: xrootd.XrootdServer, content: Path) -> None:
    expected = content.read_bytes()
    assert fetch(f"{origin.http_url}/some/content") == expected
    part = fetch(f"{origin.http_url}/some/content", Range="bytes=1000-1999")
    assert part == expected[1000:2000]
    fsspec = pytest.importorskip("fsspec")
    pytest.importorskip("fsspec_xrootd", reason="no wheel of xrootd for this Python")
    with fsspec.open(f"{origin.root_url}/some/content") as file:
        file.seek(5000)
        assert file.read(100) == expected[5000:5100]


def test_an_origin_listens_in_its_namespace_alone(origin: xrootd.XrootdServer) -> None:
    own = subprocess.run(
        ["ss", "-Hlnt", "sport", "=", f":{xrootd.ROOT_PORT}"], capture_output=True, check=True
    )
    assert not own.stdout


def test_a_cache_keeps_what_it_has_read(
    place: Namespace, origin: xrootd.XrootdServer, content: Path
) -> None:
    expected = content.read_bytes()
    with xrootd.cache(place, origin.host) as cache:
        assert fetch(f"{cache.http_url}/some/content") == expected
        assert any(cache.data.rglob("content"))


def test_an_origin_that_stands_still_goes_on(origin: xrootd.XrootdServer, content: Path) -> None:
    url = f"{origin.http_url}/some/content"
    origin.pause()
    try:
        with pytest.raises((TimeoutError, urllib.error.URLError)):
            urllib.request.urlopen(url, timeout=0.2)
    finally:
        origin.resume()
    assert fetch(url) == content.read_bytes()


def test_a_link_delays_stalls_breaks_and_spoils(origin: xrootd.XrootdServer, content: Path) -> None:
    expected = content.read_bytes()
    host, port = origin.http_url.removeprefix("http://").split(":")
    with wan.link((host, int(port))) as link:
        url = f"http://{link.address}/some/content"
        assert fetch(url) == expected
        link.conditions.delay_s, link.conditions.bytes_per_s = 0.05, 30e6
        before = time.monotonic()
        assert fetch(url) == expected
        # Handshake and request are a round trip each, and the bytes take their time.
        assert time.monotonic() - before >= 0.2 + SIZE / 30e6 * 0.9
        link.conditions.delay_s = link.conditions.bytes_per_s = 0.0

        link.stall()
        got: list[bytes] = []
        waiting = threading.Thread(target=lambda: got.append(fetch(url)))
        waiting.start()
        wait_until(lambda: link.counts.connections == 3, "the connection")
        assert not got
        link.flow()
        waiting.join(30)
        assert got == [expected]

        link.conditions.spoil = lambda data: data.replace(expected[-50:], bytes(50))
        assert fetch(url) == expected[:-50] + bytes(50)
        link.conditions.spoil = None
        link.cut()
        with pytest.raises(OSError, match=r".*"):
            fetch(url)
        link.mend()
        assert fetch(url) == expected


def test_a_balancer_goes_round_a_dead_server(origin: xrootd.XrootdServer, content: Path) -> None:
    port, dead = free_port(), free_port()
    alive = origin.http_url.removeprefix("http://")
    text = nginx.balancer(port, [f"127.0.0.1:{dead}", alive])
    with nginx.nginx(text, port) as daemon:
        for _ in range(4):
            assert fetch(f"http://127.0.0.1:{port}/some/content") == content.read_bytes()
        assert daemon.runs
    assert not daemon.runs


def test_a_server_outside_is_reached_from_inside(
    place: Namespace, tmp_path: Path, content: Path
) -> None:
    port = free_port()
    site = f"server {{ listen 127.0.0.1:{port}; root {content.parent}; }}"
    with (
        nginx.nginx(site, port, files_of_ours=True),
        wan.link(("127.0.0.1", port), door=place.listen(port)),
    ):
        script = f"import urllib.request as r; print(len(r.urlopen('{site_url(port)}').read()))"
        words = [*place.enter, sys.executable, "-c", script]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) == SIZE


def site_url(port: int) -> str:
    return f"http://127.0.0.1:{port}/content"


def test_what_a_namespace_held_is_gone() -> None:
    with namespace() as place:
        pass
    names = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    assert place.name not in names.stdout.split()
    high, low = place.name.split("-")[1:]
    assert not Path(f"/sys/class/net/evo{high}-{low}").exists()
