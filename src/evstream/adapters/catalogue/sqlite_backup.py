"""Copies of the ledger's file: made while the service works, put back while it does not."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

from evstream.adapters.catalogue.data_directory import DirectoryLock, refuse_network_file_system
from evstream.adapters.catalogue.schema_steps import missing
from evstream.adapters.catalogue.sqlite import BUSY_S_MAX, DATABASE_NAME
from evstream.adapters.catalogue.sqlite_errors import translate
from evstream.domain.errors import ConfigError, DataError, NotFoundError

REPLACED = ".replaced"
"""What the name of a ledger gets in addition that another was put in place of."""


def back_up(directory: Path, target: Path) -> int:
    """Write the ledger of a data directory, as it is at one instant, to a file; return its bytes.

    Whoever owns the directory goes on working meanwhile. The file is complete as soon as it has
    its name, which replaces one that was there; only its owner may read it.

    Raises
    ------
    NotFoundError
        There is no ledger.
    ConfigError
        The file cannot be written.
    DataError
        The ledger is damaged.
    """
    source = directory / DATABASE_NAME
    if not source.is_file():
        raise NotFoundError(
            f"there is no ledger in {directory}", hint="name the folder of the service with --data"
        )
    partial = target.with_name(f".{target.name}.partial")
    try:
        partial.unlink(missing_ok=True)
        # Made here, so that it is private from its first byte.
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with closing(_open(source)) as connection:
            connection.execute("VACUUM INTO ?", (str(partial),))
        _check(partial)
        _sync(partial)
        partial.replace(target)
        _sync(target.parent)
    except sqlite3.Error as error:
        raise translate(error) from error
    except OSError as error:
        raise ConfigError(
            f"{target} cannot be written: {error.strerror}", hint="choose another place"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return target.stat().st_size


def restore(backup: Path, directory: Path) -> Path | None:
    """Put a backup in place of a data directory's ledger; return where that is now, if it was.

    Raises
    ------
    ConflictError
        A service runs on the directory.
    NotFoundError
        There is no such backup.
    DataError
        The backup is damaged, or none.
    ConfigError
        It is of a version that this evstream does not know, or the directory cannot be used.
    """
    if not backup.is_file():
        raise NotFoundError(f"there is no file {backup}")
    refuse_network_file_system(directory)
    lock = DirectoryLock(directory)
    try:
        target = directory / DATABASE_NAME
        partial = directory / f".{DATABASE_NAME}.partial"
        with closing(_open(backup)) as connection:
            _check(backup)
            partial.unlink(missing_ok=True)
            os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            # The backup may be a plain copy of a ledger with its WAL beside it.
            connection.execute("VACUUM INTO ?", (str(partial),))
        _sync(partial)
        replaced = _put_aside(target) if target.exists() else None
        partial.replace(target)
        _sync(directory)
    except sqlite3.Error as error:
        raise translate(error) from error
    except OSError as error:
        raise ConfigError(
            f"{directory} cannot be written: {error.strerror}", hint="choose another --data"
        ) from error
    finally:
        lock.close()
    return replaced


def _open(path: Path) -> sqlite3.Connection:
    """Open a database that is there; its WAL is read too, if it has one."""
    uri = f"{path.absolute().as_uri()}?mode=rw"
    return sqlite3.connect(uri, timeout=BUSY_S_MAX, isolation_level=None, uri=True)


def _check(path: Path) -> None:
    """Refuse a file that is damaged, or of a version that is not known."""
    with closing(_open(path)) as connection:
        found = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if found != ("ok",):
            raise DataError(f"{path} is damaged: {found[0]}", hint="use another backup")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version <= 0:
        raise DataError(f"{path} is no ledger of evstream", hint="use another backup")
    missing("sqlite", version, str(path))


def _put_aside(target: Path) -> Path:
    """Give the ledger that was there another name, its WAL with it; nothing is thrown away."""
    number = 0
    while (aside := target.with_name(f"{target.name}{REPLACED}{number or ''}")).exists():
        number += 1
    for ending in ("-wal", "-shm", ""):
        part = target.with_name(target.name + ending)
        if part.exists():
            part.rename(aside.with_name(aside.name + ending))
    return aside


def _sync(path: Path) -> None:
    flags = os.O_RDONLY | (os.O_DIRECTORY if stat.S_ISDIR(path.stat().st_mode) else 0)
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
