"""Files to output stores, past the service: by URLs that claims have brought.

``http(s)://`` is a URL that is signed for one object of a bucket; ``dav(s)://`` and ``root(s)://``
are written with the pilot's own token. One for ``storage.create`` alone may not even be shown what
is there: then the service alone confirms what was written, as it compares whatever is reported.
"""

from __future__ import annotations

import asyncio
import base64
import math
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from evstream.adapters.storage.digests import Digests
from evstream.adapters.storage.webdav import SCHEMES as DAV_SCHEMES
from evstream.adapters.storage.webdav import DavClient, http_url
from evstream.adapters.storage.xrootd import SCHEMES as XROOTD_SCHEMES
from evstream.adapters.storage.xrootd import Shown, XrootdFiles
from evstream.domain.errors import (
    AccessError,
    ConfigError,
    ConflictError,
    NotFoundError,
    TransientError,
)
from evstream.domain.names import without_secrets
from evstream.ports.offload import Offload
from evstream.ports.storage import Stored

PIECE_BYTES = 1 << 20
CALL_S_MIN = 5.0
"""However little time is left, a store that lives may take so long for one request."""
CLOSE_S = 1.0
"""So long a close waits for writes that are under way."""
ONE_PUT_BYTES_MAX = 5 << 30
"""S3 takes no more in one request; the service has what is larger stored in parts."""


class Tokens(Shown, Protocol):
    """What is shown to which host."""

    def of(self, url: str) -> str:
        """Return the token for a URL; empty for none."""
        ...


class DirectWriter:
    """The `OutputWriter` port."""

    def __init__(self, tokens: Tokens, offload: Offload, ca_file: str, progress_s: float) -> None:
        self._offload = offload
        self._dav = DavClient(tokens.of, ca_file, progress_s)
        # A signed URL is all that a bucket is shown.
        self._signed = DavClient(lambda url: "", ca_file, progress_s)
        self._xrootd = XrootdFiles(tokens, progress_s)
        # Where a write broke: a part may be there, which may not be looked at.
        self._broken: set[str] = set()
        self._writing: set[asyncio.Task[Stored]] = set()

    async def write(self, place: str, path: Path, within_s: float = math.inf) -> Stored:
        """Write a file and have the store confirm what it got."""
        writing = asyncio.ensure_future(self._write(place, path, max(within_s, CALL_S_MIN)))
        self._writing.add(writing)
        writing.add_done_callback(self._forget)
        try:
            # Whoever is cancelled leaves at once: a thread that waits for a store cannot.
            return await asyncio.shield(writing)
        except asyncio.CancelledError:
            writing.cancel()
            raise

    def _forget(self, writing: asyncio.Task[Stored]) -> None:
        self._writing.discard(writing)
        if not writing.cancelled():
            # Its error may have nobody to go to; reading it says that this is known.
            writing.exception()

    async def _write(self, place: str, path: Path, within_s: float) -> Stored:
        name = without_secrets(place)
        sent = await self._offload(lambda: _describe(path, name))
        scheme = place.partition("://")[0]
        if scheme in ("http", "https"):
            await self._put_signed(place, path, sent, within_s)
            return sent
        if scheme in DAV_SCHEMES:
            await self._put_dav(http_url(place), path, sent, within_s)
            return sent
        if scheme in XROOTD_SCHEMES:
            await self._offload(lambda: self._put_xrootd(place, path, sent, within_s))
            return sent
        raise ConfigError(f"nothing here writes to {name}", hint="update the pilot")

    async def _put_signed(self, place: str, path: Path, sent: Stored, within_s: float) -> None:
        if sent.size > ONE_PUT_BYTES_MAX:
            raise ConfigError(f"a bucket takes no {sent.size} bytes in one request")
        md5 = base64.b64encode(bytes.fromhex(sent.md5)).decode()
        # The bucket compares; a second time the same bytes replace the same bytes.
        headers = {"Content-Length": str(sent.size), "Content-MD5": md5}
        await self._signed.ask("PUT", place, headers, _pieces(path), within_s)

    async def _put_dav(self, url: str, path: Path, sent: Stored, within_s: float) -> None:
        base, _, name = url.partition("://")
        host, _, folders = name.partition("/")
        url = f"{base}://{host}/{quote(folders)}"
        try:
            await self._dav.put(url, sent, _pieces(path), within_s)
        except TransientError:
            self._broken.add(url)
            raise
        except (ConflictError, AccessError) as error:
            # Whoever may only write what is new is refused as if nothing was allowed.
            if await self._seen(url, sent, within_s) is True:
                return
            if url in self._broken and isinstance(error, AccessError):
                raise ConflictError(
                    f"a part of {sent.name} may be there", hint="choose another name"
                ) from error
            raise
        if await self._seen(url, sent, within_s) is False:
            raise _other_bytes(sent)
        self._broken.discard(url)

    async def _seen(self, url: str, sent: Stored, within_s: float) -> bool | None:
        """Whether what was sent is there; None if that cannot be told."""
        try:
            return (await self._dav.stat(url, sent.name, within_s)).agrees(sent)
        except NotFoundError:
            return False
        except AccessError:
            return None

    def _put_xrootd(self, place: str, path: Path, sent: Stored, within_s: float) -> None:
        try:
            with path.open("rb") as file:
                self._xrootd.write(place, file, within_s)
        except ConflictError:
            if self._seen_by_xrootd(place, sent, within_s) is not True:
                raise
            return
        if self._seen_by_xrootd(place, sent, within_s) is False:
            raise _other_bytes(sent)

    def _seen_by_xrootd(self, place: str, sent: Stored, within_s: float) -> bool | None:
        try:
            return self._xrootd.stat(place, sent.name, within_s).agrees(sent)
        except AccessError:
            return None

    async def close(self) -> bool:
        """Close its connections; say whether all is over: a store may not answer a thread."""
        under_way = set(self._writing)
        for writing in under_way:
            writing.cancel()
        pending: set[asyncio.Task[Stored]] = set()
        if under_way:
            _, pending = await asyncio.wait(under_way, timeout=CLOSE_S)
        await self._dav.close()
        await self._signed.close()
        return not pending


def _other_bytes(sent: Stored) -> TransientError:
    return TransientError(f"{sent.name} has other bytes than were sent", hint="try again")


def _pieces(path: Path) -> Callable[[], AsyncIterator[bytes]]:
    async def read() -> AsyncIterator[bytes]:
        with path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece

    return read


def _describe(path: Path, name: str) -> Stored:
    digests = Digests()
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            digests.add(piece)
    return digests.describe(name)
