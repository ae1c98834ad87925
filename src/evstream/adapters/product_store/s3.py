"""Products in a bucket, through obstore: an object each, its name says what is in it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import obstore
from obstore.exceptions import BaseError, InvalidPathError, UnknownConfigurationKeyError
from obstore.store import S3Store

from evstream.adapters.product_store.spool_folder import discard, free_bytes_of, sweep_folder
from evstream.domain.errors import ConfigError, NotFoundError, TransientError
from evstream.domain.names import text_without_secrets, without_secrets
from evstream.ports.offload import Offload
from evstream.ports.product_store import KeptProduct

PIECE_BYTES_MAX = 1 << 20
PART_BYTES = 16 << 20
CONNECT_S_MAX = 10
PROGRESS_S_MAX = 30
RETRIES_MAX = 3


class S3ProductStore:
    """The `ProductStore` port on ``s3://BUCKET/PREFIX``.

    Endpoint and credentials are found as AWS' own tools find them: ``AWS_ENDPOINT_URL``,
    ``AWS_ACCESS_KEY_ID`` and so on.

    Parameters
    ----------
    spool_dir : Path
        Where products are made, on this machine.

    Raises
    ------
    ConfigError
        The URL names no bucket.
    """

    def __init__(self, url: str, spool_dir: Path, offload: Offload) -> None:
        self._spool_dir = spool_dir
        self._offload = offload
        self._about = without_secrets(url)
        try:
            spool_dir.mkdir(parents=True, exist_ok=True)
            self._store = S3Store.from_url(
                url.rstrip("/"),
                client_options={
                    # An endpoint is a setting of the machine's owner, who says whether it has TLS.
                    "allow_http": True,
                    "connect_timeout": timedelta(seconds=CONNECT_S_MAX),
                    "read_timeout": timedelta(seconds=PROGRESS_S_MAX),
                    # Totals have no limit: large products take their time.
                    "timeout": timedelta(days=1),
                },
                retry_config={
                    "max_retries": RETRIES_MAX,
                    "retry_timeout": timedelta(seconds=PROGRESS_S_MAX),
                },
            )
        except (BaseError, ValueError, OSError) as error:
            raise ConfigError(
                f"products cannot be kept in {self._about}: {text_without_secrets(str(error))}",
                hint="give s3://BUCKET/PREFIX",
            ) from error

    @property
    def spool_dir(self) -> Path:
        """The folder that was given."""
        return self._spool_dir

    @contextlib.contextmanager
    def _translated(self, kept: KeptProduct | None = None) -> Iterator[None]:
        about = f"product {kept.name}" if kept is not None else "its list"
        try:
            yield
        except FileNotFoundError as error:
            raise NotFoundError(f"{about} is not kept in {self._about}") from error
        except (InvalidPathError, UnknownConfigurationKeyError) as error:
            raise ConfigError(f"{self._about} cannot be used: {error}") from error
        except (BaseError, ValueError, OSError) as error:
            line = text_without_secrets(str(error)).split("\n", 1)[0][:300]
            raise TransientError(
                f"{self._about} does not answer for {about}: {line}",
                hint="look at the bucket, its endpoint and credentials",
            ) from error

    async def put(self, kept: KeptProduct, spool: Path) -> None:
        """Upload the file, in parts where it is large, and remove it."""
        try:
            with self._translated(kept):
                if (await self._offload(spool.stat)).st_size != kept.size:
                    raise TransientError(f"{spool} has not the size of product {kept.name}")
                await obstore.put_async(
                    self._store,
                    kept.object_name,
                    spool,
                    chunk_size=PART_BYTES,
                    max_concurrency=2,
                )
        finally:
            discard(spool)

    def open(self, kept: KeptProduct) -> None:
        """There are no files here."""

    def path(self, kept: KeptProduct) -> None:
        """There are no files here."""

    async def read(self, kept: KeptProduct, offset: int, size: int) -> AsyncIterator[bytes]:
        """Yield some bytes, as they come."""
        if not size:
            return
        left = size
        with self._translated(kept):
            found = await obstore.get_async(
                self._store, kept.object_name, options={"range": (offset, offset + size)}
            )
            if found.meta["size"] != kept.size:
                raise NotFoundError(f"product {kept.name} was cut short in {self._about}")
            async for chunk in found.stream(min_chunk_size=PIECE_BYTES_MAX):
                data = memoryview(chunk)
                left -= len(data)
                for at in range(0, len(data), PIECE_BYTES_MAX):
                    yield bytes(data[at : at + PIECE_BYTES_MAX])
        if left:
            raise TransientError(f"{self._about} sent less of product {kept.name} than was asked")

    async def delete(self, kept: KeptProduct) -> None:
        """Remove an object."""
        with contextlib.suppress(NotFoundError), self._translated(kept):
            try:
                await obstore.delete_async(self._store, kept.object_name)
            except BaseError:
                # Some gateways answer with nonsense where there is nothing to remove.
                await obstore.head_async(self._store, kept.object_name)
                raise

    async def listing(self) -> list[KeptProduct]:
        """List the bucket below the prefix."""
        found = []
        with self._translated():
            async for batch in obstore.list(self._store):
                for entry in batch:
                    kept = KeptProduct.parse(entry["path"], entry["last_modified"])
                    if kept is not None and kept.size == entry["size"]:
                        found.append(kept)
        return found

    async def sweep(self) -> int:
        """Remove what a dead process was making."""
        return await self._offload(partial(sweep_folder, self._spool_dir))

    def free_bytes(self) -> None:
        """There is no telling how much a bucket takes."""

    def spool_free_bytes(self) -> int:
        """Return the room on the spool folder's disk."""
        return free_bytes_of(self._spool_dir)
