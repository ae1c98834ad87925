"""Who a caller is: the owner's token, an API key, or a token of an issuer that is trusted."""

from __future__ import annotations

import hmac
from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from evstream.domain.access import (
    THE_OWNER,
    AccessKey,
    Caller,
    checked_key,
    parse_key,
)
from evstream.domain.errors import CredentialsError, RequestError
from evstream.ports import AccessKeys, Clock, TokenIssuers
from evstream.wire.access_messages import NewAccessKey

KEY_KNOWN_S = 3.0
"""So long a key is believed without asking the catalogue: a revoked one may go on no longer."""
KEYS_KNOWN_MAX = 10_000
USE_NOTED = timedelta(minutes=1)
"""The time of a key's last use is written no more often."""


@dataclass(frozen=True, slots=True)
class _Known:
    key: AccessKey | None
    until: float


class Access:
    """Tells who callers are, and keeps API keys.

    Parameters
    ----------
    token : str
        The owner's; empty where a socket's permissions are the door, and whoever calls is the
        owner.
    keys : AccessKeys, optional
        None where there is no catalogue: no API key is known there.
    issuers : TokenIssuers, optional
        Whose signed tokens are taken; None: nobody's.
    """

    def __init__(
        self,
        token: str,
        keys: AccessKeys | None,
        clock: Clock,
        issuers: TokenIssuers | None = None,
    ) -> None:
        self._token = token
        self._keys = keys
        self._clock = clock
        self._issuers = issuers
        self._known: OrderedDict[str, _Known] = OrderedDict()

    @property
    def is_open(self) -> bool:
        """Whether nobody is asked who they are."""
        return not self._token

    async def who(self, credential: str) -> Caller:
        """Return whose credential it is.

        Raises
        ------
        CredentialsError
            It is nobody's, or not any more.
        TransientError
            The catalogue, or an issuer's keys, cannot be asked.
        """
        if not self._token or hmac.compare_digest(credential.encode(), self._token.encode()):
            return THE_OWNER
        found = parse_key(credential)
        if found is not None and self._keys is not None:
            return await self._key_holder(self._keys, *found)
        if credential.count(".") == 2 and self._issuers is not None:
            return await self._issuers.who(credential)
        raise refused()

    async def _key_holder(self, keys: AccessKeys, key_id: str, secret: str) -> Caller:
        key, now = await self._key(keys, key_id), self._clock.now()
        if key is None or not key.opens(secret, now):
            raise refused()
        if key.last_used is None or now - key.last_used > USE_NOTED:
            await self._note_use(keys, key, now)
        return key.caller

    async def _key(self, keys: AccessKeys, key_id: str) -> AccessKey | None:
        known = self._known.get(key_id)
        if known is not None and self._clock.monotonic() < known.until:
            return known.key
        until = self._clock.monotonic() + KEY_KNOWN_S
        key = await keys.find(key_id)
        self._remember(key_id, _Known(key, until))
        return key

    def _remember(self, key_id: str, known: _Known) -> None:
        self._known[key_id] = known
        self._known.move_to_end(key_id)
        while len(self._known) > KEYS_KNOWN_MAX:
            self._known.popitem(last=False)

    async def _note_use(self, keys: AccessKeys, key: AccessKey, now: datetime) -> None:
        # Others who come meanwhile find the use noted.
        known = self._known.get(key.id)
        if known is not None and known.key is key:
            self._known[key.id] = _Known(replace(key, last_used=now), known.until)
        await keys.note_use(key.id, now)

    async def add_key(self, key_id: str, new: NewAccessKey) -> AccessKey:
        """Keep a key whose secret somebody else has made.

        Raises
        ------
        RequestError, ConflictError
        """
        now = self._clock.now()
        key = AccessKey(key_id, new.digest, new.role, new.name, new.edge, now, new.expires)
        return await self._kept().add(checked_key(key))

    async def keys(self) -> list[AccessKey]:
        """Return all keys, by their creation."""
        return await self._kept().all()

    async def revoke_key(self, key_id: str) -> AccessKey:
        """End a key: here now, at other heads within `KEY_KNOWN_S`.

        Raises
        ------
        NotFoundError
        """
        key = await self._kept().revoke(key_id)
        self._known.pop(key_id, None)
        return key

    def _kept(self) -> AccessKeys:
        if self._keys is None:
            raise RequestError("no keys are kept here", hint="ask the head")
        return self._keys


def refused() -> CredentialsError:
    """Return the error of whoever shows nothing, or nothing good."""
    return CredentialsError(
        "credentials are missing or wrong",
        hint="give a token (--token): an API key, one of your issuer's, or the one that the"
        " service's owner finds in its data directory",
    )
