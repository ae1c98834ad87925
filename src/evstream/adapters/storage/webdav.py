"""An output store behind HTTP: WebDAV, as XRootD and dCache speak it, with WLCG tokens.

A token with ``storage.create`` writes what is not there yet and nothing else; the service, which
sweeps, needs ``storage.read`` and ``storage.modify`` as well.
"""

from __future__ import annotations

import base64
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from email.utils import unquote as unquoted
from typing import IO
from urllib.parse import quote, unquote, urlsplit

import httpx2

from evstream.adapters.storage.remote import RemoteStore
from evstream.client.tls import client_context
from evstream.domain.errors import (
    AccessError,
    ConfigError,
    ConflictError,
    EvstreamError,
    NotFoundError,
    RequestError,
    TransientError,
)
from evstream.domain.names import Pfn, text_without_secrets, without_secrets
from evstream.ports.offload import Offload
from evstream.ports.storage import Stored

SCHEMES = {"davs": "https", "dav": "http"}
CONNECT_S_MAX = 10
PIECE_BYTES = 1 << 20
DEPTH_MAX = 20

WANTED = "adler32, md5, sha-256"
_XML = re.compile(r"<!(DOCTYPE|ENTITY)", re.IGNORECASE)


def http_url(url: str) -> str:
    """Return the URL that a request goes to: ``davs://`` is HTTPS."""
    scheme, _, rest = url.partition("://")
    return f"{SCHEMES[scheme]}://{rest}"


class DavClient:
    """Speaks to WebDAV servers; each host is shown its token, by HTTPS alone.

    Parameters
    ----------
    token_of : callable
        Gives the token for a URL; empty for none.
    progress_s : float
        A server that does nothing for so long is taken for dead.
    """

    def __init__(self, token_of: Callable[[str], str], ca_file: str, progress_s: float) -> None:
        self._token_of = token_of
        self._ca_file = ca_file
        self._progress_s = progress_s
        self._http: httpx2.AsyncClient | None = None

    def _client(self) -> httpx2.AsyncClient:
        if self._http is None:
            # Redirects lead from the door to the disk server that has the file.
            self._http = httpx2.AsyncClient(verify=client_context(self._ca_file))
        return self._http

    async def ask(
        self,
        method: str,
        url: str,
        headers: dict[str, str] | None = None,
        body: Callable[[], AsyncIterator[bytes]] | None = None,
        within_s: float = math.inf,
    ) -> httpx2.Response:
        """Return a server's answer, which is read whole; redirects are followed.

        Parameters
        ----------
        within_s : float
            It may not do nothing for longer.

        Raises
        ------
        EvstreamError
            It is none of success.
        """
        about = without_secrets(url)
        progress_s = min(self._progress_s, within_s)
        timeout = httpx2.Timeout(progress_s, connect=min(progress_s, CONNECT_S_MAX))
        try:
            for _ in range(4):
                shown = dict(headers or {})
                if token := self._token_of(url):
                    shown["Authorization"] = f"Bearer {token}"
                content = body() if body is not None else None
                answer = await self._client().request(
                    method, url, headers=shown, content=content, timeout=timeout
                )
                if answer.status_code not in (301, 302, 307, 308):
                    break
                url = str(answer.url.join(answer.headers["Location"]))
        except (httpx2.TransportError, KeyError) as error:
            what = text_without_secrets(str(error)) or type(error).__name__
            raise TransientError(f"{about} does not answer: {what}", hint="try again") from error
        if answer.status_code >= 300:
            raise _refusal(answer, about)
        return answer

    async def put(
        self,
        url: str,
        stored: Stored,
        pieces: Callable[[], AsyncIterator[bytes]],
        within_s: float = math.inf,
    ) -> None:
        """Write a file that must not be there yet, making the folders above it if need be."""
        headers = {"Content-Length": str(stored.size), "If-None-Match": "*"}
        try:
            await self.ask("PUT", url, headers, pieces, within_s)
        except (NotFoundError, ConflictError):
            # So servers answer that do not make folders by themselves; others by a name taken.
            if not await self._make_folders(url, within_s):
                raise
            await self.ask("PUT", url, headers, pieces, within_s)

    async def _make_folders(self, url: str, within_s: float) -> bool:
        """Make the folders above a file; whether any was missing."""
        parts = urlsplit(url)
        folders = parts.path.split("/")[1:-1]
        made = False
        for count in range(1, len(folders) + 1):
            folder = f"{parts.scheme}://{parts.netloc}/{'/'.join(folders[:count])}/"
            try:
                await self.ask("MKCOL", folder, within_s=within_s)
                made = True
            except EvstreamError as error:
                if isinstance(error, TransientError):
                    raise
                # It is there, or above what the token is for.
        return made

    async def stat(self, url: str, name: str, within_s: float = math.inf) -> Stored:
        """Describe a file with the digests that the server has."""
        try:
            answer = await self.ask("HEAD", url, {"Want-Digest": WANTED}, within_s=within_s)
        except ConflictError as error:
            # So XRootD speaks of a folder.
            raise NotFoundError(f"there is no object {name}", name=name) from error
        size = answer.headers.get("Content-Length", "")
        if not size.isdigit() or answer.headers.get("Content-Type", "").startswith("httpd/"):
            raise NotFoundError(f"there is no object {name}", name=name)
        return Stored(name, int(size), *digests_of(answer.headers.get("Digest", "")))

    async def close(self) -> None:
        """Close its connections."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None


def digests_of(header: str) -> tuple[str, str, str]:
    """Return SHA-256, adler32 and MD5 of a ``Digest``, in hex; empty what is not in it."""
    found: dict[str, str] = {}
    for word in header.split(","):
        algorithm, _, value = word.strip().partition("=")
        found[algorithm.lower()] = unquoted(value)
    return (
        _hex(found.get("sha-256", ""), 64),
        _hex(found.get("adler32", ""), 8),
        _hex(found.get("md5", ""), 32),
    )


def _hex(value: str, characters: int) -> str:
    if not value:
        return ""
    if re.fullmatch(rf"[0-9a-fA-F]{{1,{characters}}}", value) and (
        characters == 8 or len(value) == characters
    ):
        return value.lower().rjust(characters, "0")
    try:
        decoded = base64.b64decode(value, validate=True).hex()
    except ValueError:
        return ""
    return decoded if len(decoded) == characters else ""


def _refusal(answer: httpx2.Response, about: str) -> EvstreamError:
    status = answer.status_code
    line = text_without_secrets(answer.text.strip().split("\n", 1)[0])[:200]
    what = f"{about} answers {status}: {line}" if line else f"{about} answers {status}"
    if status in (404, 410):
        return NotFoundError(what)
    if status in (401, 403):
        return AccessError(what, hint="look at the token: storage.create, and its path")
    if status in (405, 409, 412):
        return ConflictError(what, hint="choose another name")
    if 400 <= status < 500 and status not in (408, 425, 429):
        return RequestError(what)
    return TransientError(what, hint="try again")


class WebDavStore(RemoteStore):
    """The `OutputStore` port on ``davs://HOST/FOLDER``; ``dav://`` is without TLS.

    Parameters
    ----------
    client : DavClient
        `close` closes it.
    """

    def __init__(self, url: str, offload: Offload, client: DavClient) -> None:
        super().__init__(without_secrets(url), offload)
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES or not parts.hostname or parts.query:
            raise ConfigError(
                f"outputs cannot be kept in {self.about}", hint="give davs://HOST:PORT/FOLDER"
            )
        self._url = url.rstrip("/")
        self._client = client

    def _at(self, name: str) -> str:
        return f"{http_url(self._url)}/{quote(name)}"

    def pfn(self, name: str) -> Pfn:
        """Return the URL of an object."""
        return Pfn(self._at(name))

    def places(self, name: str, life: timedelta) -> tuple[str, ...]:
        """Return the URL of an object; pilots have tokens of their own."""
        return (f"{self._url}/{name}",)

    async def _write(self, name: str, file: IO[bytes], stored: Stored) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            file.seek(0)
            while piece := file.read(PIECE_BYTES):
                yield piece

        await self._client.put(self._at(name), stored, pieces)

    async def _stat(self, name: str) -> Stored:
        return await self._client.stat(self._at(name), name)

    async def _read(self, name: str, offset: int, size: int) -> bytes:
        headers = {"Range": f"bytes={offset}-{offset + size - 1}"}
        answer = await self._client.ask("GET", self._at(name), headers)
        if answer.status_code == 206:
            return answer.content
        return answer.content[offset : offset + size]

    async def _delete(self, name: str) -> None:
        try:
            # Servers remove whole folders too.
            await self._client.stat(self._at(name), name)
            await self._client.ask("DELETE", self._at(name))
        except NotFoundError:
            return

    async def _names(self, prefix: str) -> list[str]:
        return await self._below(prefix.rpartition("/")[0], DEPTH_MAX)

    async def _below(self, folder: str, depth: int) -> list[str]:
        url = f"{http_url(self._url)}/{quote(folder)}".rstrip("/") + "/"
        try:
            answer = await self._client.ask("PROPFIND", url, {"Depth": "1"})
        except NotFoundError:
            return []
        found: list[str] = []
        for name, is_folder in _listed(answer.content, urlsplit(url).path, self.about):
            path = f"{folder}/{name}" if folder else name
            if not is_folder:
                found.append(path)
            elif depth:
                found += await self._below(path, depth - 1)
        return found


def _listed(document: bytes, folder: str, about: str) -> list[tuple[str, bool]]:
    """Return what a folder holds, and which of it are folders."""
    text = document.decode(errors="replace")
    try:
        if _XML.search(text):
            raise ET.ParseError("a document type")
        root = ET.fromstring(text)  # noqa: S314 - without entities
    except ET.ParseError as error:
        raise TransientError(f"{about} sends a list that cannot be read: {error}") from error
    found = []
    for response in root.iter("{DAV:}response"):
        href = response.findtext("{DAV:}href") or ""
        path = unquote(urlsplit(href).path)
        is_folder = response.find(".//{DAV:}resourcetype/{DAV:}collection") is not None
        # The folder itself is in it.
        name = path.rstrip("/").rpartition("/")[2]
        if re.sub("/+", "/", path).rstrip("/") != unquote(folder).rstrip("/") and name:
            found.append((name, is_folder))
    return found
