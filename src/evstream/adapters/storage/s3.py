"""An output store in a bucket: pilots write to it by URLs that are signed for one object.

Objects appear whole. Where the gateway enforces conditional writes, none is ever overwritten;
where it does not, `RemoteStore` looks before it writes, and attempts share no names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import IO

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    InvalidPathError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
    UnknownConfigurationKeyError,
)
from obstore.store import S3Store

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

CONNECT_S_MAX = 10
RETRIES_MAX = 3
PART_BYTES = 16 << 20
SIGNED_LIFE_MAX = timedelta(days=7)
"""S3 honours no longer one."""

_MD5 = re.compile(r'"?([0-9a-f]{32})"?')


class S3OutputStore(RemoteStore):
    """The `OutputStore` port on ``s3://BUCKET/PREFIX``.

    Endpoint and credentials are found as AWS' own tools find them.

    Parameters
    ----------
    progress_s : float
        A store that sends nothing for so long is taken for dead.

    Raises
    ------
    ConfigError
        The URL names no bucket.
    """

    def __init__(self, url: str, offload: Offload, progress_s: float) -> None:
        super().__init__(without_secrets(url), offload)
        self._url = url.rstrip("/")
        try:
            self._store = S3Store.from_url(
                self._url,
                client_options={
                    # An endpoint is a setting of the machine's owner, who says whether it has TLS.
                    "allow_http": True,
                    "connect_timeout": timedelta(seconds=CONNECT_S_MAX),
                    "read_timeout": timedelta(seconds=progress_s),
                    # Totals have no limit: large outputs take their time.
                    "timeout": timedelta(days=1),
                },
                retry_config={
                    "max_retries": RETRIES_MAX,
                    "retry_timeout": timedelta(seconds=progress_s),
                },
            )
        except (BaseError, ValueError, OSError) as error:
            raise ConfigError(
                f"outputs cannot be kept in {self.about}: {text_without_secrets(str(error))}",
                hint="give s3://BUCKET/PREFIX",
            ) from error

    @contextmanager
    def _translated(self, name: str) -> Iterator[None]:
        try:
            yield
        except EvstreamError:
            raise
        except FileNotFoundError as error:
            raise NotFoundError(f"there is no object {name}", name=name) from error
        except (BaseError, ValueError, OSError) as error:
            raise _translation(error, self.about, name) from error

    def pfn(self, name: str) -> Pfn:
        """Return the URL of an object."""
        return Pfn(f"{self._url}/{name}")

    def places(self, name: str, life: timedelta) -> tuple[str, ...]:
        """Return a URL that lets its holder write this one object."""
        with self._translated(name):
            signed = obstore.sign(self._store, "PUT", name, min(life, SIGNED_LIFE_MAX))
        return (str(signed),)

    async def _write(self, name: str, file: IO[bytes], stored: Stored) -> None:
        with self._translated(name):
            if stored.size > PART_BYTES:
                # There are no conditions on an upload in parts.
                await obstore.put_async(
                    self._store, name, file, chunk_size=PART_BYTES, max_concurrency=2
                )
                return
            content = file.read()
            try:
                await obstore.put_async(
                    self._store, name, content, mode="create", use_multipart=False
                )
            except NotSupportedError:
                await obstore.put_async(self._store, name, content, use_multipart=False)

    async def _stat(self, name: str) -> Stored:
        with self._translated(name):
            found = await obstore.head_async(self._store, name)
        # Of what was stored in parts it is not the MD5, and looks so.
        tag = _MD5.fullmatch(found["e_tag"] or "")
        return Stored(name, found["size"], "", "", tag[1] if tag else "")

    async def _read(self, name: str, offset: int, size: int) -> bytes:
        with self._translated(name):
            data = await obstore.get_range_async(self._store, name, start=offset, length=size)
            return bytes(data)

    async def _delete(self, name: str) -> None:
        with self._translated(name):
            try:
                await obstore.delete_async(self._store, name)
            except FileNotFoundError:
                return
            except BaseError:
                # Some gateways answer with nonsense where there is nothing to remove.
                try:
                    await obstore.head_async(self._store, name)
                except FileNotFoundError:
                    return
                raise

    async def _names(self, prefix: str) -> list[str]:
        # Stores list whole folders; what is left of the prefix is looked at by us.
        folder = prefix.rpartition("/")[0]
        found: list[str] = []
        with self._translated(prefix or "its list"):
            async for batch in obstore.list(self._store, prefix=folder or None):
                found += [entry["path"] for entry in batch]
        return found


def _translation(error: Exception, about: str, name: str) -> EvstreamError:
    line = text_without_secrets(str(error)).split("\n", 1)[0][:300]
    if isinstance(error, AlreadyExistsError | PreconditionError):
        return ConflictError(f"{name} is stored", hint="choose another name", name=name)
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return AccessError(f"{about} refuses {name}: {line}", hint="look at the credentials")
    if isinstance(error, InvalidPathError | UnknownConfigurationKeyError):
        return ConfigError(f"{about} cannot be used: {line}", hint="look at its URL")
    return TransientError(
        f"{about} does not answer for {name}: {line}",
        hint="look at the bucket, its endpoint and credentials",
    )
