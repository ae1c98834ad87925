"""What is prepared ahead is there when its source is not: `evstream prepare` with processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
import uproot

from evstream import rootio
from tests.spine.commands import CommandLine, wait_until, write_events

pytestmark = pytest.mark.server
ENTRIES = 400


@pytest.fixture
def command(tmp_path: Path) -> Iterator[CommandLine]:
    made = CommandLine(tmp_path)
    try:
        yield made
    finally:
        made.end_all()


def test_products_are_cut_from_a_copy_once_the_origin_is_gone(
    command: CommandLine, tmp_path: Path
) -> None:
    head, opens = tmp_path / "head", {"EVSTREAM_SOURCE_ROOTS": str(tmp_path)}
    command.start("head", "--data", head, "--port", 0, EVSTREAM_BEAT_S="0.5", **opens)
    wait_until((head / "address.json").exists, "the head")
    url = json.loads((head / "address.json").read_text())["url"]
    door = ("--url", url, f"--token={(head / 'token').read_text()}")
    source = write_events(tmp_path / "a.root", ENTRIES, ballast=50)
    with uproot.open(source) as file:
        events = list(file["Events"]["event"].array(entry_start=10, entry_stop=30))
    command.run("dataset", "add", "test:one", source, *door)
    words = ("--name", "lyon", "--port", 0, "--cache", tmp_path / "cache")
    edge = ("edge", "--head", url, door[2], *words, "--data", tmp_path / "edge")
    command.start(*edge, EVSTREAM_BEAT_S="0.5", **opens)
    command.run("prepare", "test:one", "--precache", "only", "--wait", *door)
    source.unlink()

    plan = command.json("plan", "test:one", "", 10, 30, *door)
    with urlopen(plan["endpoints"][0]["url"], timeout=60) as answer:
        content = answer.read()
    product = tmp_path / "product.root"
    product.write_bytes(content)
    with rootio.FileSource(product) as opened:
        assert rootio.inspect(opened).tree("Events").entries == 20
    with uproot.open(product) as file:
        assert list(file["Events"]["event"].array()) == events
