"""An nginx before an edge sends what the edge keeps, with the site of `deploy/`."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.certificates import Authority
from tests.ports import free_port
from tests.spine.commands import CommandLine, wait_until, write_events
from tests.stack.nginx import nginx, skip_without_nginx

pytestmark = pytest.mark.server
ENTRIES = 400
SITE = Path(__file__).parents[2] / "deploy" / "nginx" / "evstream-edge.conf"


@dataclass
class Product:
    """A product behind nginx, and what fetches it."""

    url: str
    cache: Path
    context: ssl.SSLContext

    def fetch(self, **headers: str) -> tuple[int, bytes, Message]:
        """Return status, content and headers of an answer, whatever the status."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.url, headers=named)
        try:
            with urllib.request.urlopen(request, timeout=60, context=self.context) as answer:
                return answer.status, answer.read(), answer.headers
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(), error.headers


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """A product of an edge that stands behind nginx, with the site as it is but for its places."""
    skip_without_nginx()
    tmp_path = tmp_path_factory.mktemp("federation")
    command = CommandLine(tmp_path)
    authority = Authority(tmp_path / "tls")
    certificate, key = authority.issue("server")
    front, behind, cache, data = free_port(), free_port(), tmp_path / "cache", tmp_path / "head"
    opens = {"EVSTREAM_SOURCE_ROOTS": str(tmp_path), "EVSTREAM_BEAT_S": "0.5"}
    text = SITE.read_text(encoding="utf-8").replace("127.0.0.1:8401", f"127.0.0.1:{behind}")
    for there, here in (
        (r"listen \[::\]:443", f"listen [::1]:{front}"),
        (r"listen 443", f"listen 127.0.0.1:{front}"),
        ("/etc/evstream/tls/certificate.pem", str(certificate)),
        ("/etc/evstream/tls/key.pem", str(key)),
        ("/var/lib/evstream/cache", str(cache)),
    ):
        text = re.sub(there, here, text)
    try:
        command.start("head", "--data", data, "--port", 0, **opens)
        wait_until((data / "address.json").exists, "the head")
        door = (
            *("--url", json.loads((data / "address.json").read_text())["url"]),
            f"--token={(data / 'token').read_text()}",
        )
        events = write_events(tmp_path / "a.root", ENTRIES, ballast=50)
        command.run("dataset", "add", "test:one", events, *door)
        words = ("--name", "lyon", "--port", behind, "--cache", cache, "--data", tmp_path / "edge")
        command.start(
            *("edge", "--head", door[1], *door[2:], "--url", f"https://localhost:{front}", *words),
            EVSTREAM_ACCEL_LOCATION="/evstream-cache/",
            **opens,
        )

        def planned() -> str:
            plan = command.json("plan", "test:one", "", 0, ENTRIES, *door)
            urls = [one["url"] for one in plan["endpoints"]]
            return next((url for url in urls if url.startswith("https://localhost")), "")

        wait_until(lambda: bool(planned()), "the edge")
        with nginx(text, front, files_of_ours=True):
            context = ssl.create_default_context(cafile=str(authority.ca_file))
            yield Product(planned(), cache, context)
    finally:
        command.end_all()


def test_nginx_sends_what_the_edge_keeps(product: Product) -> None:
    """Ranges, conditions and digests are what the edge itself answers."""
    status, whole, first = product.fetch()
    assert status == 200
    etag = first["ETag"]

    # Bytes that are in the file alone show who sends: the edge knows nothing of them.
    def kept_as() -> list[Path]:
        return [path for path in product.cache.rglob("*") if path.is_file() and same(path, whole)]

    wait_until(lambda: len(kept_as()) == 1, "the product to be kept")
    (kept,) = kept_as()
    marked = whole[:-4] + b"mark"
    kept.write_bytes(marked)
    status, content, headers = product.fetch()
    assert (status, content, headers["ETag"]) == (200, marked, etag)
    digest = base64.b64encode(hashlib.sha256(whole).digest()).decode()
    assert headers["Repr-Digest"] == f"sha-256=:{digest}:"
    assert "X-Accel-Redirect" not in headers

    end = len(whole)
    for asked, condition, expected in (
        ("bytes=10-19", etag, (206, marked[10:20])),
        ("bytes=-4", etag, (206, b"mark")),
        (f"bytes={end - 4}-", "", (206, b"mark")),
        ("bytes=10-19", '"another"', (200, marked)),
        (f"bytes={end}-", "", (416, None)),
    ):
        named = {"Range": asked} | ({"If_Range": condition} if condition else {})
        status, content, headers = product.fetch(**named)
        assert (status, content if expected[1] is not None else None) == expected, named
        if status == 206:
            assert headers["ETag"] == etag
            assert re.fullmatch(rf"bytes \d+-\d+/{end}", headers["Content-Range"])
    assert product.fetch(If_None_Match=etag)[:2] == (304, b"")
    assert product.fetch(If_Match='"another"')[0] == 412


def test_nginx_gives_nothing_without_a_signature(product: Product) -> None:
    product.fetch()
    assert product.cache.exists()
    bare = product.url.partition("?")[0]
    assert Product(bare, product.cache, product.context).fetch()[0] in (401, 403, 404)
    parts = urlsplit(product.url)
    for path in product.cache.rglob("*"):
        inside = f"{parts.scheme}://{parts.netloc}/evstream-cache/{path.relative_to(product.cache)}"
        assert Product(inside, product.cache, product.context).fetch()[0] == 404


def same(path: Path, content: bytes) -> bool:
    return path.stat().st_size == len(content) and path.read_bytes() == content
