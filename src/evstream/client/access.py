"""API keys as clients see them, and who the service takes them for."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime

from evstream.client.connection import Connection
from evstream.domain.access import Role, digest_of, key_text
from evstream.wire import access_messages as m


@dataclass(frozen=True, slots=True)
class MadeKey:
    """A key just made: the only time that the whole of it is anywhere.

    Attributes
    ----------
    text : str
        What its holder shows.
    """

    text: str
    view: m.AccessKeyView


class Keys:
    """Makes, lists and revokes API keys.

    Parameters
    ----------
    connection : Connection
        The service's, which closes it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def make(
        self, role: Role, name: str, *, edge: str = "", expires: datetime | None = None
    ) -> MadeKey:
        """Make a key. Its secret is made here and told to nobody: the service gets a digest."""
        key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        new = m.NewAccessKey(role, name, digest_of(secret), edge, expires)
        view = await self._connection.call("PUT", f"/v1/keys/{key_id}", m.AccessKeyView, new)
        return MadeKey(key_text(key_id, secret), view)

    async def all(self) -> list[m.AccessKeyView]:
        """Return all keys, by their creation."""
        return await self._connection.pages("/v1/keys", m.AccessKeyView)

    async def revoke(self, key_id: str) -> m.AccessKeyView:
        """End a key."""
        return await self._connection.call("DELETE", f"/v1/keys/{key_id}", m.AccessKeyView)

    async def caller(self) -> m.CallerView:
        """Return who the service takes us for."""
        return await self._connection.call("GET", "/v1/caller", m.CallerView)
