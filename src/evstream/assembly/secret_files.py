"""Secrets in a data directory, made on first use, for their owner's eyes."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from evstream.adapters.catalogue.data_directory import refuse_network_file_system
from evstream.assembly.application import Keys
from evstream.domain.errors import ConfigError, TransientError

TOKEN_FILE = "token"  # noqa: S105 - the name of a file, not a secret


def door_token(data_dir: Path) -> str:
    """Return the token of a data directory's TCP door, made on first use.

    Raises
    ------
    ConfigError
        The directory is on a network file system: nothing is made there.
    """
    refuse_network_file_system(data_dir)
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    return secret(data_dir / TOKEN_FILE, lambda: secrets.token_hex(32).encode()).decode()


def keys_of(data_dir: Path) -> Keys:
    """Return the secrets of a data directory, made on first use."""
    folder = data_dir / "keys"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Keys(
        urls=secret(folder / "urls", lambda: secrets.token_bytes(32)),
        receipts=secret(folder / "receipts", lambda: secrets.token_bytes(32)),
    )


def secret(path: Path, make: Callable[[], bytes]) -> bytes:
    """Return a file's content, made first where there is none; for its owner's eyes.

    Raises
    ------
    TransientError
        No space is left for it.
    ConfigError
        It cannot be written or read.
    """
    try:
        if not path.exists():
            _write_secret(path, make())
        return path.read_bytes()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise TransientError(
                f"no space is left for {path}", hint="free space on its disk"
            ) from error
        raise ConfigError(
            f"{path} cannot be used: {error.strerror}", hint="look at the folder's owner and mode"
        ) from error


def _write_secret(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
