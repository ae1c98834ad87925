"""Which output store a service keeps outputs in, and what pilots write to it with."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from evstream.adapters.offload import Threads
from evstream.adapters.source.origin_tokens import OriginTokens
from evstream.adapters.storage.bundled import BundledStore
from evstream.adapters.storage.direct import DirectWriter
from evstream.adapters.storage.fallback import FallbackStore
from evstream.adapters.storage.local import IDENTITY, LocalStore
from evstream.adapters.storage.webdav import SCHEMES as DAV_SCHEMES
from evstream.adapters.storage.webdav import DavClient, WebDavStore
from evstream.adapters.storage.xrootd import SCHEMES as XROOTD_SCHEMES
from evstream.adapters.storage.xrootd import XrootdFiles, XrootdStore
from evstream.domain.errors import ConfigError, NotFoundError
from evstream.domain.names import without_secrets
from evstream.ports import Catalogue, Offload, OutputStore, OutputWriter
from evstream.settings import Settings

STORE_LOOKS = 10
"""So often a head looks whether a store is its ledger's, a tenth of a second apart."""
REMOTE_IDENTITY = "evstream-store-id"
IDENTITY_BYTES_MAX = 1000
WRITER_THREADS = 4


class Identity(Protocol):
    """Whose store it is."""

    about: str
    id_at: str

    async def read(self) -> str:
        """Return the id that the store was given; empty if it was given none."""
        ...

    async def give(self, identity: str) -> None:
        """Give it an id for good; one that it has stays."""
        ...


class _FolderIdentity:
    def __init__(self, store: LocalStore, folder: Path) -> None:
        self._store = store
        self.about, self.id_at = str(folder), str(folder / IDENTITY)

    async def read(self) -> str:
        return self._store.identity()

    async def give(self, identity: str) -> None:
        self._store.identify(identity)


class _RemoteIdentity:
    def __init__(self, store: OutputStore, url: str) -> None:
        self._store = store
        self.about = without_secrets(url)
        self.id_at = f"{self.about}/{REMOTE_IDENTITY}"

    async def read(self) -> str:
        try:
            pieces = [p async for p in self._store.read(REMOTE_IDENTITY, 0, IDENTITY_BYTES_MAX)]
        except NotFoundError:
            return ""
        return b"".join(pieces).decode(errors="replace").strip()

    async def give(self, identity: str) -> None:
        await self._store.put(REMOTE_IDENTITY, _line(identity))


async def _line(identity: str) -> AsyncIterator[bytes]:
    yield f"{identity}\n".encode()


@dataclass(frozen=True, slots=True)
class OpenStore:
    """The output store of a service.

    Attributes
    ----------
    folder : Path or None
        Where it is, if tasks in a chain read it from this machine's disk.
    """

    store: OutputStore
    identities: list[Identity]
    folder: Path | None
    clients: list[DavClient]

    async def close(self) -> None:
        """Close its connections."""
        for client in self.clients:
            await client.close()


def open_output_store(settings: Settings, directory: Path, offload: Offload) -> OpenStore:
    """Open the store that settings name; a folder in the data directory if they name none.

    Raises
    ------
    ConfigError
        It cannot be used, or a package for it is missing.
    """
    default = settings.outputs_dir or str(directory / "outputs")
    first = _open(settings.output_store or default, settings, offload)
    if not settings.output_store_fallback:
        return replace(first, store=BundledStore(first.store))
    second = _open(settings.output_store_fallback, settings, offload)
    return OpenStore(
        BundledStore(FallbackStore(first.store, second.store, first.identities[0].about)),
        first.identities + second.identities,
        first.folder or second.folder,
        first.clients + second.clients,
    )


def _open(url: str, settings: Settings, offload: Offload) -> OpenStore:
    scheme, separator, _ = url.partition("://")
    progress_s = settings.source_progress_s
    if not separator:
        folder = Path(url)
        local = LocalStore(folder, offload)
        return OpenStore(local, [_FolderIdentity(local, folder)], folder, [])
    tokens = OriginTokens.parse(settings.origin_tokens)
    clients: list[DavClient] = []
    store: OutputStore
    if scheme == "s3":
        store = _open_bucket(url, offload, progress_s)
    elif scheme in DAV_SCHEMES:
        clients.append(DavClient(tokens.of, settings.ca_file, progress_s))
        store = WebDavStore(url, offload, clients[0])
    elif scheme in XROOTD_SCHEMES:
        store = XrootdStore(url, offload, XrootdFiles(tokens, progress_s))
    else:
        raise ConfigError(
            f"outputs cannot be kept in {without_secrets(url)}",
            hint="give s3://, root://, roots://, dav://, davs:// or a folder (output_store)",
        )
    return OpenStore(store, [_RemoteIdentity(store, url)], None, clients)


def _open_bucket(url: str, offload: Offload, progress_s: float) -> OutputStore:
    try:
        from evstream.adapters.storage.s3 import S3OutputStore
    except ImportError as problem:
        raise ConfigError(
            f"{without_secrets(url)} needs a package: {problem}",
            hint="pip install 'evstream[s3]'",
        ) from problem
    return S3OutputStore(url, offload, progress_s)


async def require_store(catalogue: Catalogue, store: Identity, *, first: bool = True) -> None:
    """Refuse a store that is not this ledger's: each has its own, which all its heads share.

    Another store lacks its outputs, and another ledger's would lose its own to our sweep.

    Parameters
    ----------
    first : bool
        Outputs are in it already, if the ledger has any; a second one may be new.
    """
    ours = secrets.token_hex(16)
    for _ in range(STORE_LOOKS):
        found = await store.read()
        known = await catalogue.output_store("" if found else ours)
        if known == ours or (known and not found and not first):
            await store.give(known)
        elif known != found:
            # Another head may be about to give the store its id.
            await asyncio.sleep(0.1)
            continue
        return
    named = "outputs_dir or output_store"
    if known:
        share = f"let {named} name the store that all heads of this ledger share"
        hint = f"{share}; if its outputs are lost for good, write {known} into {store.id_at}"
    else:
        hint = (
            f"choose another {named}; if they are this ledger's, restored from before it knew"
            f" its store, or nobody's any more, remove {store.id_at}"
        )
    raise ConfigError(
        f"{store.about} is not the store that this ledger's outputs are in", hint=hint
    )


def make_writer(settings: Settings) -> OutputWriter:
    """Return what a pilot writes outputs to stores with, past the service."""
    return DirectWriter(
        OriginTokens.parse(settings.origin_tokens),
        Threads(WRITER_THREADS),
        settings.ca_file,
        settings.source_progress_s,
    )
