"""Tokens that clients find, and read again when they were renewed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from evstream.client.bearer import TokenFile, bearer, discovered, is_private
from evstream.domain.errors import ConfigError

HEAD = "https://head.example.org:8443"


def test_a_token_is_read_again_when_its_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(" first\n")
    read = TokenFile(path)
    assert read() == "first"
    fresh = tmp_path / "fresh"
    fresh.write_text("second")
    fresh.replace(path)
    assert read() == "second"
    # Whoever renews it need not do that in one step.
    path.write_text("")
    assert read() == "second"
    path.unlink()
    assert read() == "second"
    path.write_text("third")
    assert read() == "third"
    with pytest.raises(ConfigError, match="cannot be read"):
        TokenFile(tmp_path / "none")()


@pytest.mark.parametrize("content", ["", "  \n", "two tokens", "a\nb", "tökén"])
def test_what_is_no_token_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "token"
    path.write_text(content)
    with pytest.raises(ConfigError, match="token"):
        TokenFile(path)()


def test_a_token_that_is_given_comes_first(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("from-file")
    assert bearer("given", str(path))() == "given"
    assert bearer("", str(path))() == "from-file"
    assert bearer("", "")() == ""


def test_tokens_are_discovered_in_the_order_of_the_profile(tmp_path: Path) -> None:
    everything = {
        "BEARER_TOKEN": "itself",
        "BEARER_TOKEN_FILE": "/a/file",
        "XDG_RUNTIME_DIR": str(tmp_path),
    }
    place = tmp_path / f"bt_u{os.geteuid()}"
    place.write_text("x")
    assert discovered(HEAD, everything) == ("itself", "")
    del everything["BEARER_TOKEN"]
    assert discovered(HEAD, everything) == ("", "/a/file")
    del everything["BEARER_TOKEN_FILE"]
    assert discovered(HEAD, everything) == ("", str(place))


def test_a_token_that_was_found_is_not_sent_in_the_clear() -> None:
    environment = {"BEARER_TOKEN": "secret"}
    assert discovered("http://head.example.org", environment) == ("", "")
    assert discovered("http://127.0.0.1:8400", environment) == ("secret", "")


@pytest.mark.parametrize(
    ("url", "private"),
    [
        (HEAD, True),
        ("unix:/a/b", True),
        ("http://127.0.0.1:1", True),
        ("http://[::1]:1", True),
        ("http://localhost", True),
        ("http://10.0.0.1", False),
        ("http://localhost.example.org", False),
        ("http://127.0.0.1.example.org", False),
        ("http://127.0.0.1@example.org", False),
    ],
)
def test_who_could_overhear(url: str, private: bool) -> None:
    assert is_private(url) is private
