"""The contract of what keeps API keys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import timedelta
from typing import ClassVar

import pytest

from evstream.domain.access import AccessKey, digest_of
from evstream.domain.errors import ConflictError, NotFoundError
from evstream.ports.access_keys import AccessKeys
from evstream.testing.contracts.suite import Suite
from evstream.testing.manual_clock import ManualClock

OpenKeys = Callable[[], AbstractAsyncContextManager[AccessKeys]]

HOUR = timedelta(hours=1)


class AccessKeysContract(Suite):
    """Override `open_keys`; each opening gives what was kept before."""

    durable: ClassVar[bool] = True

    @pytest.fixture
    def clock(self) -> ManualClock:
        """Make the clock that the keys' keeper is given."""
        return ManualClock()

    @pytest.fixture
    def open_keys(self, clock: ManualClock) -> OpenKeys:
        """Make what opens the keys to be tested."""
        raise NotImplementedError

    @pytest.fixture
    async def keys(self, anyio_backend: str, open_keys: OpenKeys) -> AsyncIterator[AccessKeys]:
        """Open the keys."""
        async with open_keys() as opened:
            yield opened

    @pytest.fixture
    def key(self, clock: ManualClock) -> AccessKey:
        """Make a key that may be kept."""
        now = clock.now()
        return AccessKey("aaaaaaaa1", digest_of("s"), "edge", "Lyon", "lyon-1", now, now + HOUR)

    async def test_a_key_is_found_as_it_was_kept(self, keys: AccessKeys, key: AccessKey) -> None:
        assert await keys.find(key.id) is None
        assert await keys.add(key) == key
        assert await keys.find(key.id) == key
        forever = replace(key, id="bbbbbbbb2", expires=None, role="pilot", edge="")
        await keys.add(forever)
        assert await keys.find(forever.id) == forever

    async def test_the_same_key_again_changes_nothing(
        self, keys: AccessKeys, key: AccessKey
    ) -> None:
        await keys.add(key)
        assert await keys.add(replace(key, created=key.created + HOUR / 2)) == key
        assert await keys.all() == [key]

    async def test_an_id_is_one_keys(self, keys: AccessKeys, key: AccessKey) -> None:
        await keys.add(key)
        for other in (
            replace(key, digest=digest_of("other")),
            replace(key, name="Bern"),
            replace(key, edge="lyon-2"),
            replace(key, expires=None),
        ):
            with pytest.raises(ConflictError):
                await keys.add(other)
        assert await keys.find(key.id) == key

    async def test_keys_are_listed_by_their_creation(
        self, keys: AccessKeys, key: AccessKey
    ) -> None:
        assert await keys.all() == []
        later = replace(key, id="00000000", created=key.created + HOUR / 2)
        await keys.add(later)
        await keys.add(key)
        assert [each.id for each in await keys.all()] == [key.id, later.id]

    async def test_a_key_is_revoked_once(self, keys: AccessKeys, key: AccessKey) -> None:
        await keys.add(key)
        gone = await keys.revoke(key.id)
        assert gone.revoked is not None
        assert await keys.revoke(key.id) == gone
        assert await keys.find(key.id) == gone
        assert await keys.add(key) == gone, "a revoked key does not come back"

    async def test_what_is_not_there_cannot_be_revoked(self, keys: AccessKeys) -> None:
        with pytest.raises(NotFoundError):
            await keys.revoke("cccccccc3")

    async def test_the_last_use_is_the_latest(self, keys: AccessKeys, key: AccessKey) -> None:
        await keys.add(key)
        first, last = key.created + HOUR, key.created + 2 * HOUR
        for used in (first, last, first):
            await keys.note_use(key.id, used)
        assert await keys.find(key.id) == replace(key, last_used=last)
        await keys.note_use("cccccccc3", last)

    async def test_keys_stay(self, anyio_backend: str, open_keys: OpenKeys, key: AccessKey) -> None:
        if not self.durable:
            pytest.skip("gone with the process, by its nature")
        async with open_keys() as keys:
            await keys.add(key)
        async with open_keys() as keys:
            assert await keys.all() == [key]
