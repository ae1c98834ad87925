"""The service of a data directory: SQLite or PostgreSQL, a local output store."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from evstream.adapters.catalogue.parquet_archive import ParquetArchive
from evstream.adapters.catalogue.sqlite import SqliteDatabase
from evstream.adapters.clock import SystemClock
from evstream.adapters.formats import KnownFormats
from evstream.adapters.ids import RandomIds
from evstream.adapters.offload import Threads
from evstream.adapters.storage.local import IDENTITY, LocalStore
from evstream.assembly.application import Application, Parts
from evstream.assembly.issuers import open_issuers
from evstream.assembly.origins import is_for_this_machine, open_origins
from evstream.assembly.secret_files import keys_of
from evstream.domain.errors import ConfigError
from evstream.domain.names import without_secrets
from evstream.ports import (
    Archive,
    Catalogue,
    Clock,
)
from evstream.settings import Settings

if TYPE_CHECKING:
    from evstream.adapters.catalogue.postgresql import PostgresDatabase

STORE_LOOKS = 10
"""So often a head looks whether a store is its ledger's, a tenth of a second apart."""


def _open_database(
    url: str, directory: Path, clock: Clock, archive: Archive
) -> SqliteDatabase | PostgresDatabase:
    """Open what keeps ledger and catalogue; the directory is this process's either way."""
    if not url:
        return SqliteDatabase(directory, clock, archive=archive)
    if not url.startswith(("postgresql://", "postgres://")):
        raise ConfigError(
            f"the catalogue {without_secrets(url)} is no PostgreSQL",
            hint="give postgresql://USER@HOST/DATABASE",
        )
    try:
        from evstream.adapters.catalogue.postgresql import PostgresDatabase
    except ImportError as problem:
        raise ConfigError(
            f"there is no driver for PostgreSQL here: {problem}",
            hint="pip install 'evstream[postgresql]'",
        ) from problem
    return PostgresDatabase(url, directory, archive=archive)


async def _require_store(catalogue: Catalogue, store: LocalStore, folder: Path) -> None:
    """Refuse a store that is not this ledger's: each has one, which all its heads share.

    Another store lacks its outputs, and another ledger's would lose its own to our sweep.
    """
    ours = secrets.token_hex(16)
    for _ in range(STORE_LOOKS):
        found = store.identity()
        known = await catalogue.output_store("" if found else ours)
        if known == ours:
            store.identify(ours)
        elif known != found:
            # Another head may be about to give the folder its id.
            await asyncio.sleep(0.1)
            continue
        return
    if known:
        share = "let outputs_dir name the folder that all heads of this ledger share"
        hint = f"{share}; if its outputs are lost for good, write {known} into {folder / IDENTITY}"
    else:
        hint = (
            "choose another outputs_dir; if they are this ledger's, restored from before it knew"
            f" its store, or nobody's any more, remove {folder / IDENTITY}"
        )
    raise ConfigError(f"{folder} is not the store that this ledger's outputs are in", hint=hint)


@asynccontextmanager
async def open_embedded(
    settings: Settings, *, token: str = "", redirects: bool = False
) -> AsyncIterator[Application]:
    """Open the embedded service of a data directory, which this process then owns.

    Raises
    ------
    ConflictError
        Another process owns the directory.
    ConfigError
        The directory cannot be used, or outputs are in another store.
    """
    directory = Path(settings.data_dir)
    clock = SystemClock()
    offload = Threads(settings.threads)
    archive_dir = Path(settings.archive_dir) if settings.archive_dir else directory / "archive"
    archive = ParquetArchive(archive_dir, offload)
    outputs_dir = Path(settings.outputs_dir) if settings.outputs_dir else directory / "outputs"
    database = _open_database(settings.catalogue, directory, clock, archive)
    try:
        store = LocalStore(outputs_dir, offload)
        await _require_store(database.catalogue, store, outputs_dir)
        parts = Parts(
            clock=clock,
            ids=RandomIds(),
            offload=offload,
            ledger=database.ledger,
            catalogue=database.catalogue,
            products=database.products,
            whiteboard=database.whiteboard,
            links=database.links,
            store=store,
            opener=open_origins(
                settings,
                own=not redirects and is_for_this_machine(settings.listen),
                outputs=outputs_dir,
            ),
            formats=KnownFormats(),
            archive=archive,
            load=database.load,
            locks=database.locks,
            access_keys=database.access_keys,
            issuers=open_issuers(settings, clock),
        )
        application = Application(parts, keys_of(directory), settings, token, redirects=redirects)
        try:
            yield application
        finally:
            await application.close()
    finally:
        await database.close()
