"""Roles, paths of tokens, and keys of which only a digest is kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evstream.domain.access import (
    THE_OWNER,
    AccessKey,
    Caller,
    checked_key,
    digest_of,
    is_below,
    key_text,
    parse_key,
)
from evstream.domain.errors import RequestError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY = AccessKey("aaaaaaaa1", digest_of("secret"), "pilot", "Lyon", "", NOW)


@pytest.mark.parametrize(
    ("path", "allowed", "below"),
    [
        ("/foo/bar", "/foo/bar", True),
        ("/foo/bar/x", "/foo/bar", True),
        ("/foo/bar/x", "/foo/bar/", True),
        ("/foo/bargain", "/foo/bar", False),
        ("/foo", "/foo/bar", False),
        ("/foo/bar", "/", True),
        ("/foo/../bar", "/foo", False),
        ("/foo/./bar", "/foo", False),
        ("/foo//bar", "/foo", False),
        ("//foo", "/", False),
        ("foo", "/", False),
        ("/foo", "/foo/..", False),
        ("/Foo", "/foo", False),
    ],
)
def test_paths_are_compared_segment_by_segment(path: str, allowed: str, below: bool) -> None:
    assert is_below(path, allowed) is below


SEGMENTS = st.lists(st.text("ab.", min_size=1, max_size=3), min_size=1, max_size=4)


@given(SEGMENTS, SEGMENTS)
def test_whatever_is_below_begins_with_all_the_segments(path: list[str], top: list[str]) -> None:
    allowed, asked = "/" + "/".join(top), "/" + "/".join(path)
    if is_below(asked, allowed):
        assert asked == allowed or asked.startswith(allowed + "/")


def test_who_may() -> None:
    pilot = Caller("p", frozenset({"pilot"}))
    edge = Caller("e", frozenset({"edge"}), "lyon-1")
    both = Caller("b", frozenset({"edge", "operator"}), "lyon-1")
    assert pilot.may({"pilot", "operator"})
    assert not pilot.may({"submitter"})
    assert THE_OWNER.may(())
    assert edge.may({"edge"}, "lyon-1")
    assert not edge.may({"edge"}, "lyon-2")
    assert not edge.may({"edge"}, "")
    assert both.may({"edge", "operator"}, "lyon-2")


def test_a_key_opens_while_it_is_good() -> None:
    assert KEY.opens("secret", NOW)
    assert not KEY.opens("Secret", NOW)
    assert not replace(KEY, revoked=NOW).opens("secret", NOW)
    over = replace(KEY, expires=NOW + timedelta(seconds=1))
    assert over.opens("secret", NOW)
    assert not over.opens("secret", NOW + timedelta(seconds=1))


def test_a_key_is_read_as_it_is_written() -> None:
    assert parse_key(key_text("aaaaaaaa1", "se_c-ret")) == ("aaaaaaaa1", "se_c-ret")
    for other in ("", "evs", "evs_", "evs_aaaaaaaa1", "evs_aaaaaaaa1_", "evs_A_x", "x_aaaaaaaa1_s"):
        assert parse_key(other) is None


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"id": "../../etc"}, "id"),
        ({"id": ""}, "id"),
        ({"digest": "x" * 64}, "digest"),
        ({"name": ""}, "name"),
        ({"name": "n" * 201}, "name"),
        ({"role": "edge"}, "edge"),
        ({"edge": "lyon"}, "edge"),
        ({"role": "edge", "edge": "../x"}, "edge"),
        ({"expires": NOW}, "expire"),
    ],
)
def test_a_key_that_cannot_be_is_refused(wrong: dict[str, object], told: str) -> None:
    assert checked_key(KEY) is KEY
    with pytest.raises(RequestError, match=told):
        checked_key(replace(KEY, **wrong))  # type: ignore[arg-type]
