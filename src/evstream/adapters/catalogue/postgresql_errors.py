"""PostgreSQL's SQLSTATEs, as errors that say what to do now."""

from __future__ import annotations

import msgspec
import psycopg

from evstream.domain.errors import (
    ConfigError,
    DataError,
    EvstreamError,
    LimitError,
    RequestError,
    TransientError,
)

RETRY_S = 1.0
LOOK = "look at its URL, its users and their rights"
PREPARED_ALREADY = "42P05"
"""By another head: connections are given to others between transactions."""
_NOT_LET_IN = (
    "does not exist",
    "authentication failed",
    "no pg_hba.conf entry",
    "permission denied",
)


def translate(error: Exception) -> Exception:
    """Return the error of ours that stands for a foreign one.

    Errors that are ours, and those of callers' own code, come back as they are.
    """
    translated: EvstreamError
    if isinstance(error, psycopg.Error):
        translated = _from_server(error)
    elif isinstance(error, msgspec.MsgspecError):
        translated = DataError(
            f"a record in the database cannot be read: {error}",
            hint="use the version of evstream that wrote it",
        )
    elif isinstance(error, OverflowError):
        translated = LimitError("a number is too large for the ledger", hint="stay within 64 bits")
    elif isinstance(error, UnicodeEncodeError):
        translated = RequestError(f"a text is not Unicode: {error.reason}", hint="send UTF-8")
    else:
        return error
    translated.__cause__ = error
    return translated


def refused_at_first(error: psycopg.Error) -> ConfigError | None:
    """Return the error of ours where a server would not let us in, and will not if asked again.

    While a service runs it is told otherwise: databases are dropped to be restored.
    """
    said = str(error)
    # Nothing but its words says why a connection was refused.
    if error.sqlstate or not any(words in said for words in _NOT_LET_IN):
        return None
    (line,) = [line for line in said.splitlines() if any(w in line for w in _NOT_LET_IN)][:1]
    _, _, why = line.rpartition("FATAL:")
    return ConfigError(f"the database refused: {why.strip()}", hint=LOOK)


def _from_server(error: psycopg.Error) -> EvstreamError:
    state = error.sqlstate or ""
    said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if state == PREPARED_ALREADY:
        return ConfigError(
            f"the database's connections are given to others between transactions ({said})",
            hint="connect to the server, or to a pooler that keeps sessions",
        )
    if state[:2] in ("28", "3D", "42") or state == "0A000":
        return ConfigError(f"the database refused: {said}", hint=LOOK)
    if not state and isinstance(error, psycopg.ProgrammingError):
        return ConfigError(f"the database's URL cannot be read: {said}", hint="look at it again")
    if state[:2] == "22" or (not state and isinstance(error, psycopg.DataError)):
        return LimitError(f"the database cannot hold a value: {said}", hint="send less at once")
    lost = not state and isinstance(error, psycopg.OperationalError)
    # Connections that break have no state; 08 a broken connection, 25 a server that has become a
    # standby, 26 another session than before (somebody pools connections), 40 a serialisation
    # failure, 53 no resources, 55 a lock, 57 a shutdown, 58 the system below it.
    if lost or state[:2] in ("08", "25", "26", "40", "53", "55", "57", "58"):
        return TransientError(
            f"the database is away or busy ({said})",
            hint="ask again later",
            retry_after_s=RETRY_S,
        )
    return EvstreamError(
        f"the ledger's database refused: {said}",
        hint="this is a fault of evstream; please report it",
        sqlstate=state,
    )
