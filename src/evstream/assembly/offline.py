"""What commands need without a service: formats, readers, backups, verification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from evstream.adapters.catalogue import sqlite_backup
from evstream.adapters.formats import KnownFormats, RootFormat
from evstream.adapters.source.fsspec import FsspecOpener
from evstream.client import verification
from evstream.domain.errors import ConfigError
from evstream.eventindex import Readers
from evstream.ports import (
    Formats,
)
from evstream.ports.format import Format
from evstream.rootio import Rules
from evstream.settings import Settings


def back_up_catalogue(settings: Settings, target: Path) -> int:
    """Write the ledger's file, as it is now, to another; return its bytes."""
    _require_file(settings, "back it up with pg_dump")
    return sqlite_backup.back_up(Path(settings.data_dir), target)


def restore_catalogue(settings: Settings, backup: Path) -> Path | None:
    """Put a backup in place of the ledger's file; return where that is now, if it was there."""
    _require_file(settings, "restore it with pg_restore")
    return sqlite_backup.restore(backup, Path(settings.data_dir))


def _require_file(settings: Settings, hint: str) -> None:
    if settings.catalogue:
        raise ConfigError(
            "the setting 'catalogue' says that the ledger is in a database server", hint=hint
        )


def make_formats() -> Formats:
    """Return the formats of files that there are."""
    return KnownFormats()


def make_readers() -> Readers:
    """Return what the event index reads files with."""
    return Readers(KnownFormats(), FsspecOpener())


def verify_receipt(
    path: Path,
    outputs: Path | None = None,
    trusted_key: str = "",
    sources: Path | None = None,
    names: tuple[str, ...] = (),
    parents: Sequence[Path] = (),
) -> list[verification.Level]:
    """Verify a receipt offline, as `evstream.client.verification` says."""
    return verification.verify_receipt(
        path, make_formats(), outputs, trusted_key, sources, names, parents
    )


def make_root_format(rules: Mapping[str, str]) -> Format:
    """Return the ROOT format with rules for what is beside the events.

    Raises
    ------
    RequestError
        A name that is no rule.
    """
    return RootFormat(Rules.of(rules))
