"""The message that says that a service can do its work."""

from __future__ import annotations

from evstream.wire.messages import Message


class Ready(Message, frozen=True):
    """GET /v1/ready.

    Attributes
    ----------
    parts : list of str
        What was tried, and can be used.
    """

    parts: list[str]
