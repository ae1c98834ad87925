"""The `AccessKeys` port in a dictionary."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from evstream.domain.access import AccessKey, same_key, unknown_access_key
from evstream.ports.clock import Clock


class MemoryAccessKeys:
    """Keeps keys by their ids; gone with the process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._keys: dict[str, AccessKey] = {}

    async def add(self, key: AccessKey) -> AccessKey:
        """Keep a key."""
        if not same_key(self._keys.get(key.id), key):
            self._keys[key.id] = key
        return self._keys[key.id]

    async def find(self, key_id: str) -> AccessKey | None:
        """Return a key."""
        return self._keys.get(key_id)

    async def all(self) -> list[AccessKey]:
        """Return all keys, by their creation."""
        return sorted(self._keys.values(), key=lambda key: (key.created, key.id))

    async def revoke(self, key_id: str) -> AccessKey:
        """End a key now."""
        key = self._keys.get(key_id)
        if key is None:
            raise unknown_access_key(key_id)
        if key.revoked is None:
            key = self._keys[key_id] = replace(key, revoked=self._clock.now())
        return key

    async def note_use(self, key_id: str, used: datetime) -> None:
        """Note when a key was used."""
        key = self._keys.get(key_id)
        if key is not None and (key.last_used is None or key.last_used < used):
            self._keys[key_id] = replace(key, last_used=used)
