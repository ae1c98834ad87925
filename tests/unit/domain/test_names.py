"""Physical names are shown without what opens them."""

from __future__ import annotations

import pytest

from evstream.domain.names import text_without_secrets, without_secrets


@pytest.mark.parametrize(
    ("pfn", "shown"),
    [
        ("https://me:pw@host/a?X-Amz-Signature=s", "https://host/a"),
        ("https://me:p@w@host:8443/a/b.root#token", "https://host:8443/a/b.root"),
        ("simplecache::https://me@host/a?t=1", "simplecache::https://host/a"),
        ("zip://in.root::s3://key:secret@bucket/a.zip", "zip://in.root::s3://bucket/a.zip"),
        ("root://me@host:1094//store/a.root?authz=Bearer%20x", "root://host:1094//store/a.root"),
        ("/plain/path?", "/plain/path?"),
        ("/with@at#and?more.root", "/with@at#and?more.root"),
    ],
)
def test_a_name_is_shown_without_its_secrets(pfn: str, shown: str) -> None:
    assert without_secrets(pfn) == shown


def test_urls_within_a_message_lose_theirs_too() -> None:
    text = "404, message='Not Found', url='https://me:pw@host/a?token=abc' (https://b/c?s=1)"
    shown = "404, message='Not Found', url='https://host/a' (https://b/c"
    assert text_without_secrets(text).startswith(shown)
