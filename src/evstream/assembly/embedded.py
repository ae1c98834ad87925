"""The service of a data directory: SQLite or PostgreSQL, and its output store."""

from __future__ import annotations

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
from evstream.assembly.application import Application, Parts
from evstream.assembly.issuers import open_issuers
from evstream.assembly.origins import is_for_this_machine, open_origins
from evstream.assembly.output_stores import open_output_store, require_store
from evstream.assembly.secret_files import keys_of
from evstream.domain.errors import ConfigError
from evstream.domain.names import without_secrets
from evstream.ports import (
    Archive,
    Clock,
)
from evstream.settings import Settings

if TYPE_CHECKING:
    from evstream.adapters.catalogue.postgresql import PostgresDatabase


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
    database = _open_database(settings.catalogue, directory, clock, archive)
    try:
        outputs = open_output_store(settings, directory, offload)
        for number, identity in enumerate(outputs.identities):
            await require_store(database.catalogue, identity, first=not number)
        parts = Parts(
            clock=clock,
            ids=RandomIds(),
            offload=offload,
            ledger=database.ledger,
            catalogue=database.catalogue,
            products=database.products,
            whiteboard=database.whiteboard,
            links=database.links,
            store=outputs.store,
            opener=open_origins(
                settings,
                own=not redirects and is_for_this_machine(settings.listen),
                outputs=outputs.folder,
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
            await outputs.close()
    finally:
        await database.close()
