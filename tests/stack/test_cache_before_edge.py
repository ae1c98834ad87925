"""An XCache in front of who makes products, and ROOT that opens one by its URL."""

from __future__ import annotations

import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from xml.etree import ElementTree as ET

import pytest

from tests.spine.commands import CommandLine, write_events
from tests.spine.root_judge import root_program
from tests.stack import wan, xrootd
from tests.stack.namespaces import namespace

pytestmark = [pytest.mark.server, pytest.mark.root_user]
MACRO = Path(__file__).with_name("open_by_url.C")


@pytest.fixture
def command(tmp_path: Path) -> Iterator[CommandLine]:
    """Run evstream commands in a folder of the test's own."""
    line = CommandLine(tmp_path)
    yield line
    line.end_all()


@pytest.fixture
def url(command: CommandLine, tmp_path: Path) -> str:
    """Return the signed URL of a product of 100 events, of a service that makes and serves it."""
    data = tmp_path / "data"
    events = write_events(tmp_path / "a.root", 600)
    command.serve(data, "--port", 0)
    command.run("dataset", "add", "user:a", events, "--data", data)
    printed = command.run("plan", "user:a", "a.root", 0, 100, "--metalink", "--data", data).stdout
    urls = [one.text for one in ET.fromstring(printed).iter() if one.tag.endswith("}url")]
    assert urls[0] is not None
    return urls[0]


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return bytes(answer.read())


def opened_by_root(url: str) -> str:
    """Return what ROOT reads of the product behind a URL."""
    done = subprocess.run(
        [str(root_program()), "-b", "-q", "-l", f'{MACRO}("{url}")'],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr


def test_a_cache_keeps_products_whatever_their_signature(url: str) -> None:
    xrootd.skip_without_http_plugin()
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    with (
        namespace() as place,
        wan.link((parts.hostname, parts.port), door=place.listen(parts.port)) as link,
        xrootd.cache(place, f"http://127.0.0.1:{parts.port}") as cache,
    ):
        there = urlunsplit(urlsplit(cache.http_url)[:2] + parts[2:])
        # What is not kept yet is let in, or not, where it is made.
        with pytest.raises(urllib.error.HTTPError) as refused:
            fetch(there.replace("&s=", "&s=0"))
        refused.value.close()
        product = fetch(url)
        assert fetch(there) == product
        moved = link.counts.to_client
        assert moved >= len(product)
        assert fetch(there) == product
        # The path alone names what is kept: the signature of another day costs no transfer.
        assert fetch(there.replace("&s=", "&s=0")) == product
        assert link.counts.to_client - moved < len(product)
        # By its own protocol too, which all builds of ROOT speak.
        by_root = f"{cache.root_url}{parts.path}?{parts.query}"
        assert opened_by_root(by_root) == "READ 100 99"


def test_root_opens_the_url_of_a_plan(url: str) -> None:
    assert opened_by_root(url) == "READ 100 99"
