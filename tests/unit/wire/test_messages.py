"""Messages that are none are refused as such."""

from __future__ import annotations

import pytest

from evstream.domain.errors import RequestError
from evstream.wire.messages import NewDataset, decode


@pytest.mark.parametrize("body", [b'{"files": "\x82"}', b"[" * 100_000, b"", b"\xff\xfe", b"{}"])
def test_whatever_comes_is_a_message_or_a_bad_request(body: bytes) -> None:
    with pytest.raises(RequestError, match="NewDataset"):
        decode(body, NewDataset)
