"""SQLite's result codes, as errors that say what to do now."""

from __future__ import annotations

import sqlite3

import msgspec

from evstream.domain.errors import (
    ConfigError,
    DataError,
    EvstreamError,
    LimitError,
    RequestError,
    TransientError,
)

_TRANSIENT = {
    sqlite3.SQLITE_FULL: ("no space is left for the ledger", "free space on its disk"),
    sqlite3.SQLITE_BUSY: ("another process writes the ledger's file", "end that process"),
    sqlite3.SQLITE_LOCKED: ("the ledger's file is locked", "ask again"),
    sqlite3.SQLITE_PROTOCOL: ("the ledger's file is locked", "ask again"),
    sqlite3.SQLITE_NOMEM: ("no memory is left for the ledger", "free memory"),
    sqlite3.SQLITE_IOERR: ("the ledger's disk failed", "look at the kernel's log"),
    sqlite3.SQLITE_INTERRUPT: ("the ledger was interrupted", "ask again"),
    sqlite3.SQLITE_ABORT: ("the ledger was interrupted", "ask again"),
}
_CONFIG = {
    sqlite3.SQLITE_READONLY: ("the ledger's file is read-only", "give its owner write access"),
    sqlite3.SQLITE_CANTOPEN: ("the ledger's file cannot be opened", "check its folder's rights"),
    sqlite3.SQLITE_PERM: ("the ledger's file may not be used", "check its rights"),
    sqlite3.SQLITE_AUTH: ("the ledger's file may not be used", "check its rights"),
    sqlite3.SQLITE_NOLFS: ("this system has no large files", "choose another disk"),
}
_DATA = {
    sqlite3.SQLITE_CORRUPT: "the ledger's file is damaged",
    sqlite3.SQLITE_NOTADB: "the ledger's file is no SQLite database",
}
_LIMIT = {
    sqlite3.SQLITE_TOOBIG: "a text is too long for the ledger",
    sqlite3.SQLITE_RANGE: "too many values for the ledger",
}


def translate(error: Exception) -> Exception:
    """Return the error of ours that stands for a foreign one.

    Errors that are ours, and those of callers' own code, come back as they are.
    """
    if isinstance(error, sqlite3.Error):
        translated = _from_sqlite(error)
    elif isinstance(error, msgspec.MsgspecError):
        translated = DataError(
            f"a record in the ledger's file cannot be read: {error}",
            hint="keep the file and use the version of evstream that wrote it",
        )
    elif isinstance(error, OverflowError):
        translated = LimitError("a number is too large for the ledger", hint="stay within 64 bits")
    elif isinstance(error, UnicodeEncodeError):
        translated = RequestError(f"a text is not Unicode: {error.reason}", hint="send UTF-8")
    else:
        return error
    translated.__cause__ = error
    return translated


def _from_sqlite(error: sqlite3.Error) -> EvstreamError:
    # The low byte is the primary result code; the rest says more of the same.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in _TRANSIENT:
        message, hint = _TRANSIENT[code]
        return TransientError(f"{message} ({error})", hint=f"{hint}, then try again")
    if code in _CONFIG:
        message, hint = _CONFIG[code]
        return ConfigError(f"{message} ({error})", hint=hint)
    if code in _DATA:
        return DataError(
            f"{_DATA[code]} ({error})", hint="keep it and start from a backup or a new folder"
        )
    if code in _LIMIT:
        return LimitError(f"{_LIMIT[code]} ({error})", hint="send less at once")
    return EvstreamError(
        f"the ledger's database refused: {error}",
        hint="this is a fault of evstream; please report it",
        sqlite_code=code,
    )
