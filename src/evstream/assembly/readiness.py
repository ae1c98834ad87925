"""What a service uses to find out whether it can do its work."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from evstream.ports import Catalogue, Ids, OutputStore
from evstream.web.readiness import Check


def head_checks(catalogue: Catalogue, store: OutputStore, ids: Ids) -> Mapping[str, Check]:
    """Return how a head tries database and store."""

    async def content() -> AsyncIterator[bytes]:
        yield b"ready\n"

    async def use_database() -> None:
        await catalogue.output_store()

    async def use_store() -> None:
        # No two heads that share a store write the same object, and no sweep judges it.
        probe = f"ready/{ids.new('probe-')}"
        await store.put(probe, content())
        await store.delete(probe)

    return {"database": use_database, "store": use_store}
