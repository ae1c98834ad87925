"""Messages about who may do what: API keys, and who a caller is."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta

from evstream.domain.access import KEY_NAME_CHARS_MAX, Role
from evstream.wire.messages import Message
from evstream.wire.product_messages import Sha256

KeyName = Annotated[str, Meta(min_length=1, max_length=KEY_NAME_CHARS_MAX)]
Time = Annotated[datetime, Meta(tz=True)]


class NewAccessKey(Message, frozen=True):
    """PUT /v1/keys/ID: a key to be kept; its secret stays with whoever made it.

    Attributes
    ----------
    name : str
        Who has it.
    digest : str
        SHA-256 of the secret, in hexadecimal.
    edge : str
        The edge that it is for, where the role is ``edge``.
    expires : datetime, optional
        When it ends by itself.
    """

    role: Role
    name: KeyName
    digest: Sha256
    edge: str = ""
    expires: Time | None = None


class AccessKeyView(Message, frozen=True):
    """A key as it is shown: nothing of its secret."""

    id: str
    role: Role
    name: str
    created: datetime
    edge: str = ""
    expires: datetime | None = None
    revoked: datetime | None = None
    last_used: datetime | None = None


class CallerView(Message, frozen=True):
    """GET /v1/caller: who the service takes the caller for.

    Attributes
    ----------
    readable : list of str
        Paths below which their token lets them read content.
    """

    name: str
    roles: list[str]
    edge: str = ""
    readable: list[str] = []
