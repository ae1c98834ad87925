"""Which service a command talks to, and which entries it asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from evstream.cli.get import parse_entries
from evstream.cli.service import Door
from evstream.domain.errors import RequestError


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address of another service stands in the environment."""
    monkeypatch.setenv("EVSTREAM_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("EVSTREAM_TOKEN", "theirs")


def test_a_folder_that_is_named_outweighs_the_environment(tmp_path: Path) -> None:
    settings = Door(data=tmp_path).settings()
    assert (settings.url, settings.token) == ("", "")
    assert Path(settings.data_dir) == tmp_path


def test_the_environment_counts_where_no_flag_is_given() -> None:
    settings = Door().settings()
    assert (settings.url, settings.token) == ("http://127.0.0.1:1", "theirs")


def test_a_url_that_is_named_outweighs_a_folder(tmp_path: Path) -> None:
    settings = Door(data=tmp_path, url="http://127.0.0.1:2", token="mine").settings()
    assert (settings.url, settings.token) == ("http://127.0.0.1:2", "mine")


@pytest.mark.parametrize(("text", "entries"), [("1:2", (1, 2)), (":", (0, -1)), ("7:", (7, -1))])
def test_entries_are_half_open(text: str, entries: tuple[int, int]) -> None:
    assert parse_entries(text) == entries


@pytest.mark.parametrize("text", ["", "5", "-5:-1", "990:-1", "1:2:3", "a:b", "1 : 2", "١:٢"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="START:STOP"):
        parse_entries(text)
