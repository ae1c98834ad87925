"""API keys that are given out, and who a token is."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from evstream.domain.access import AccessKey, Caller


class AccessKeys(Protocol):
    """Keys, of which only digests are kept. Every call is durable when it returns."""

    async def add(self, key: AccessKey) -> AccessKey:
        """Keep a key; the same one again changes nothing.

        Raises
        ------
        ConflictError
            Another key has its id.
        """
        ...

    async def find(self, key_id: str) -> AccessKey | None:
        """Return a key, revoked and expired ones too."""
        ...

    async def all(self) -> list[AccessKey]:
        """Return all keys, by their creation."""
        ...

    async def revoke(self, key_id: str) -> AccessKey:
        """End a key now; the first end stays.

        Raises
        ------
        NotFoundError
        """
        ...

    async def note_use(self, key_id: str, used: datetime) -> None:
        """Note when a key was used, if that is later than what is known."""
        ...


class TokenIssuers(Protocol):
    """Knows who a signed token of somebody else's is."""

    async def who(self, token: str) -> Caller:
        """Return whom a token stands for.

        Raises
        ------
        CredentialsError
            It does not hold, and why.
        TransientError
            Its issuer cannot be asked for its keys.
        """
        ...
