"""What fails again and again is said ever more seldom, and that it is over, once."""

from __future__ import annotations

import logging

import pytest

from evstream.domain.errors import CredentialsError, TransientError
from evstream.edge.troubles import TIMES_MAX, Troubles


def test_intervals_grow_up_to_a_bound(caplog: pytest.LogCaptureFixture) -> None:
    troubles = Troubles(logging.getLogger("evstream.test"), "no beat is taken", "beats are taken")
    troubles.worked()
    assert not caplog.messages
    said = []
    for times in range(1, 3 * TIMES_MAX + 1):
        troubles.failed(CredentialsError("the key is refused"))
        if caplog.messages:
            said.append(times)
            caplog.clear()
    assert said == [*(2**power for power in range(11)), 3 * TIMES_MAX]


def test_another_trouble_and_its_end_are_said_at_once(caplog: pytest.LogCaptureFixture) -> None:
    troubles = Troubles(logging.getLogger("evstream.test"), "no beat is taken", "beats are taken")
    for error in (*[TransientError("away")] * 3, *[CredentialsError("refused")] * 3):
        troubles.failed(error)
    troubles.worked()
    troubles.worked()
    assert caplog.messages == [
        "evstream: no beat is taken: away",
        "evstream: no beat is taken (2 times): away",
        "evstream: no beat is taken: refused",
        "evstream: no beat is taken (2 times): refused",
        "evstream: beats are taken",
    ]
