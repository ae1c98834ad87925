"""What a reply that is none of ours stands for."""

from __future__ import annotations

import pytest

from evstream.domain.errors import EvstreamError, RequestError, TransientError
from evstream.wire.problems import from_problem

PAGE = b"<html>nobody is here</html>"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RequestError),
        (403, RequestError),
        # A gateway's, while the service behind it starts again or has too much to do.
        (404, TransientError),
        (408, TransientError),
        (429, TransientError),
        (502, TransientError),
    ],
)
def test_a_gateways_page(status: int, kind: type[EvstreamError]) -> None:
    error = from_problem(PAGE, status)
    assert type(error) is kind
    assert "nobody is here" in error.message
