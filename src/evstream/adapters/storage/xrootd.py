"""An output store behind root://, by XRootD's own client, whose calls block.

Files are made to be new, with the folders above them, and stay only if they are closed: a broken
write leaves nothing, and nothing is overwritten.
"""

from __future__ import annotations

import errno
import importlib
import math
import socket
from contextlib import suppress
from datetime import timedelta
from functools import cache
from typing import IO, Any, Protocol

from evstream.adapters.storage.remote import RemoteStore
from evstream.domain.errors import (
    AccessError,
    ConfigError,
    ConflictError,
    EvstreamError,
    NotFoundError,
    TransientError,
)
from evstream.domain.names import Pfn, text_without_secrets, without_secrets
from evstream.ports.offload import Offload
from evstream.ports.storage import Stored

SCHEMES = ("root", "roots", "xroot", "xroots")
PIECE_BYTES = 4 << 20

CONNECT_S_MAX = 10.0
ANSWER_S_MAX = 30.0
"""So long a server may think about a request that moves no bytes."""
CLEAN_S_MAX = 5.0

_CLIENT = {"ConnectionWindow": 10, "StreamErrorWindow": 10, "TimeoutResolution": 1}
"""Seconds, as for sources. By the client's defaults, 15 s are added to each time limit, and a
server that was away for a moment is away for minutes."""

_MODE = 0o644
_NOT_FOUND = {3011, errno.ENOENT, errno.ENOTDIR}
_NOT_ALLOWED = {3010, 3030, errno.EACCES, errno.EPERM}
_TAKEN = {3018, errno.EEXIST}
_FOLDER = {3016, errno.EISDIR}


class Shown(Protocol):
    """What is shown to servers: tokens."""

    def with_token(self, url: str) -> str:
        """Return a URL that shows a token with the request."""
        ...

    def with_login(self, url: str) -> str:
        """Return a URL that shows it at the login."""
        ...


class XrootdFiles:
    """Files behind root://, by their URLs. Every method blocks.

    The client tries for all of a request's time to reach a server that refuses connections, so
    that each method sees first whether anybody listens.

    Parameters
    ----------
    timeout_s : float
        A request that brings nothing for so long is given up.
    """

    def __init__(self, tokens: Shown, timeout_s: float) -> None:
        self._tokens = tokens
        self._timeout_s = math.ceil(timeout_s)
        self._answer_s = math.ceil(min(timeout_s, ANSWER_S_MAX))

    def write(self, url: str, file: IO[bytes], within_s: float = math.inf) -> None:
        """Write a file that must not be there yet; it is there whole or not at all.

        Parameters
        ----------
        within_s : float
            No request of it may bring nothing for longer.
        """
        self._reach(url)
        client, flags = _client(url), _flags()
        call_s = _at_most(self._timeout_s, within_s)
        there = client.File()
        how = flags.OpenFlags.NEW | flags.OpenFlags.MAKEPATH | flags.OpenFlags.POSC
        shown = self._tokens.with_token(url)
        open_s = _at_most(self._answer_s, within_s)
        self._must(there.open(shown, how, _MODE, timeout=open_s), url)
        offset = 0
        try:
            while piece := file.read(PIECE_BYTES):
                self._must(there.write(piece, offset, timeout=call_s), url)
                offset += len(piece)
        except BaseException as error:
            self._take_back(there, url)
            if isinstance(error, ValueError):
                # So the client speaks of a file whose server is lost.
                raise _silent(url, str(error)) from error
            raise
        self._must(there.close(timeout=call_s), url)

    def _take_back(self, there: Any, url: str) -> None:
        # Left open it is taken away by the server; closed, it would count as whole. So it
        # is cut to nothing first, and removed.
        with suppress(ValueError):
            there.truncate(0, timeout=math.ceil(CLEAN_S_MAX))
        with suppress(ValueError):
            there.close(timeout=math.ceil(CLEAN_S_MAX))
        # A token may be good for writing alone: then nothing is left but an empty file.
        with suppress(EvstreamError):
            self.delete(url, CLEAN_S_MAX)

    def _reach(self, url: str) -> None:
        """See that somebody listens.

        Raises
        ------
        TransientError
        """
        parts = _client(url).URL(url)
        host = parts.hostname.removeprefix("[").removesuffix("]")
        try:
            socket.create_connection((host, parts.port), CONNECT_S_MAX).close()
        except OSError as error:
            raise _silent(url, error.strerror or str(error)) from error

    def stat(self, url: str, name: str, within_s: float = math.inf) -> Stored:
        """Describe a file, with the digest that the server has at hand."""
        self._reach(url)
        server, path = self._server(url)
        found = self._must(server.stat(path, timeout=_at_most(self._answer_s, within_s)), url)
        if found.flags & _flags().StatInfoFlags.IS_DIR:
            raise NotFoundError(f"there is no object {name}", name=name)
        # It may be computed now, out of the whole file.
        call_s = _at_most(self._timeout_s, within_s)
        status, answer = server.query(_flags().QueryCode.CHECKSUM, path, timeout=call_s)
        told = answer.rstrip(b"\0").decode(errors="replace").split() if status.ok else []
        known = {told[0].lower(): told[1].lower()} if len(told) == 2 else {}
        adler32 = known.get("adler32", "")
        adler32 = adler32.rjust(8, "0") if adler32 else ""
        return Stored(name, found.size, known.get("sha256", ""), adler32, known.get("md5", ""))

    def read(self, url: str, offset: int, size: int) -> bytes:
        """Return bytes of a file."""
        self._reach(url)
        file = _client(url).File()
        shown = self._tokens.with_token(url)
        self._must(file.open(shown, _flags().OpenFlags.READ, timeout=self._answer_s), url)
        try:
            return bytes(self._must(file.read(offset, size, timeout=self._timeout_s), url))
        finally:
            with suppress(ValueError):
                file.close(timeout=math.ceil(CLEAN_S_MAX))

    def delete(self, url: str, within_s: float = math.inf) -> None:
        """Remove a file, if there is one; folders stay."""
        self._reach(url)
        server, path = self._server(url)
        call_s = _at_most(self._answer_s, within_s)
        try:
            found = self._must(server.stat(path, timeout=call_s), url)
            if not found.flags & _flags().StatInfoFlags.IS_DIR:
                self._must(server.rm(path, timeout=call_s), url)
        except NotFoundError:
            return

    def names(self, url: str) -> list[str]:
        """Return the paths of all files below a folder, seen from there."""
        self._reach(url)
        server, path = self._server(url)
        plain = path.partition("?")[0].rstrip("/")
        return self._below(server, url, plain, path.partition("?")[2])

    def _below(self, server: Any, url: str, folder: str, shown: str) -> list[str]:
        asked = f"{folder}?{shown}" if shown else folder
        flags = _flags().DirListFlags.STAT
        status, listed = server.dirlist(asked, flags, timeout=self._answer_s)
        if not status.ok:
            if status.errno in _NOT_FOUND:
                return []
            raise _translated(status, url)
        found = []
        for entry in listed:
            if entry.statinfo and entry.statinfo.flags & _flags().StatInfoFlags.IS_DIR:
                below = self._below(server, url, f"{folder}/{entry.name}", shown)
                found += [f"{entry.name}/{name}" for name in below]
            else:
                found.append(entry.name)
        return found

    def _server(self, url: str) -> tuple[Any, str]:
        """Return the server of a URL, and the path there that shows the token."""
        client = _client(url)
        parts = client.URL(self._tokens.with_token(url))
        login = self._tokens.with_login(f"{parts.protocol}://{parts.hostid}/")
        return client.FileSystem(login), parts.path_with_params

    def _must(self, answer: tuple[Any, Any], url: str) -> Any:
        status, found = answer
        if not status.ok:
            raise _translated(status, url)
        return found


class XrootdStore(RemoteStore):
    """The `OutputStore` port on ``root://HOST:PORT//FOLDER``."""

    def __init__(self, url: str, offload: Offload, files: XrootdFiles) -> None:
        super().__init__(without_secrets(url), offload)
        self._url = url.rstrip("/")
        self._files = files
        parts = _client(url).URL(self._url)
        if not parts.is_valid() or not parts.path or "?" in url:
            raise ConfigError(
                f"outputs cannot be kept in {self.about}", hint="give root://HOST:PORT//FOLDER"
            )

    def _at(self, name: str) -> str:
        return f"{self._url}/{name}"

    def pfn(self, name: str) -> Pfn:
        """Return the URL of an object."""
        return Pfn(self._at(name))

    def places(self, name: str, life: timedelta) -> tuple[str, ...]:
        """Return the URL of an object; pilots have tokens of their own."""
        return (self._at(name),)

    async def _write(self, name: str, file: IO[bytes], stored: Stored) -> None:
        await self._offload(lambda: self._files.write(self._at(name), file))

    async def _stat(self, name: str) -> Stored:
        return await self._offload(lambda: self._files.stat(self._at(name), name))

    async def _read(self, name: str, offset: int, size: int) -> bytes:
        return await self._offload(lambda: self._files.read(self._at(name), offset, size))

    async def _delete(self, name: str) -> None:
        await self._offload(lambda: self._files.delete(self._at(name)))

    async def _names(self, prefix: str) -> list[str]:
        folder = prefix.rpartition("/")[0]
        found = await self._offload(lambda: self._files.names(self._at(folder)))
        return [f"{folder}/{name}" if folder else name for name in found]


def _translated(status: Any, url: str) -> EvstreamError:
    about = without_secrets(url)
    what = text_without_secrets(str(status.message).strip())[:300]
    # What is below a file has no number of its own.
    nowhere = status.errno in _NOT_FOUND | _FOLDER or "not a directory" in what
    if status.code == status.errNotFound or nowhere:
        return NotFoundError(f"there is no object {about}")
    if status.errno in _TAKEN:
        return ConflictError(f"{about} is stored", hint="choose another name")
    if status.code in (status.errAuthFailed, status.errLoginFailed) or (
        status.errno in _NOT_ALLOWED
    ):
        return AccessError(
            f"{about} refuses: {what}", hint="look at the token: storage.create, and its path"
        )
    return _silent(url, what)


def _silent(url: str, what: str) -> TransientError:
    return TransientError(f"{without_secrets(url)} does not answer: {what}", hint="try again")


def _at_most(call_s: int, within_s: float) -> int:
    """Return a request's time limit: as ever, or what is left; zero would be the client's own."""
    return max(1, math.ceil(min(call_s, within_s)))


@cache
def _module(name: str) -> Any:
    return importlib.import_module(name)


@cache
def _set_client() -> Any:
    client = _module("XRootD.client")
    for name, value in _CLIENT.items():
        # What the environment says (XRD_...) stands: then this changes nothing.
        client.EnvPutInt(name, value)
    return client


def _flags() -> Any:
    return _module("XRootD.client.flags")


def _client(url: str) -> Any:
    try:
        return _set_client()
    except ImportError as problem:
        raise ConfigError(
            f"{without_secrets(url)} needs a package: {problem}",
            hint="pip install 'evstream[xrootd]'",
        ) from problem
