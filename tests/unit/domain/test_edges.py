"""Where edges may say that they are."""

from __future__ import annotations

import pytest

from evstream.domain.edges import checked_url
from evstream.domain.errors import RequestError


@pytest.mark.parametrize(
    "url",
    ["https://edge1.example.org/", "http://127.0.0.1:8080", "https://[2001:db8::1]:8443/evstream"],
)
def test_clients_are_sent_to_servers_of_http(url: str) -> None:
    assert checked_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        *("", "x", "//h", "javascript:x", "file:///etc", "ftp://h/", "https://", "https:///x"),
        *("http://u:p@h/", "https://h/?q", "https://h/#f", "https://h/ x", "https://h\n"),
        *("https://h\r\nX: y/", "https://h/\r\nX: y", " https://h", "https://h\\@evil/"),
    ],
)
def test_and_nowhere_else(url: str) -> None:
    with pytest.raises(RequestError):
        checked_url(url)
