"""What a service says of itself: that it is there, and that it can do its work."""

from __future__ import annotations

from evstream.wire.messages import Message


class Health(Message, frozen=True):
    """GET /v1/health. ``receipt_key`` is the public key, hex, that signs receipts."""

    version: str
    receipt_key: str
    status: str = "ok"


class Ready(Message, frozen=True):
    """GET /v1/ready.

    Attributes
    ----------
    parts : list of str
        What was tried, and can be used.
    """

    parts: list[str]
