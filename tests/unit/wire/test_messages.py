"""Messages that are none are refused as such."""

from __future__ import annotations

import pytest

from evstream.domain.errors import RequestError
from evstream.wire.messages import NewDataset, decode


@pytest.mark.parametrize("body", [b'{"files": "\x82"}', b"[" * 100_000, b"", b"\xff\xfe", b"{}"])
def test_whatever_comes_is_a_message_or_a_bad_request(body: bytes) -> None:
    with pytest.raises(RequestError, match="NewDataset"):
        decode(body, NewDataset)


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (r"a\u0000b", "a\ufffdb"),
        (r"\u0000\u0000", "\ufffd\ufffd"),
        (r"\\\u0000", "\\\ufffd"),
        (r"\\u0000", r"\u0000"),
        (r"\\\\u0000\u0000", "\\\\u0000\ufffd"),
    ],
)
def test_no_text_holds_a_nul(sent: str, read: str) -> None:
    assert decode(f'"{sent}"', str) == read
    assert decode(f'"{sent}"'.encode(), str) == read
