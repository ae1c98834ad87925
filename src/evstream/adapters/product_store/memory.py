"""Products in memory: for tests and the simulator."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

from evstream.adapters.product_store.spool_folder import free_bytes_of, sweep_folder
from evstream.domain.errors import NotFoundError, TransientError
from evstream.ports.product_store import KeptProduct

PIECE_BYTES_MAX = 1 << 20


class MemoryProductStore:
    """The `ProductStore` port on a dictionary.

    Parameters
    ----------
    spool_dir : Path
        Where products are made.
    now : callable
        Tells when a product was put.
    """

    def __init__(
        self, spool_dir: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._spool_dir = spool_dir
        self._now = now
        self._objects: dict[str, tuple[bytes, datetime]] = {}
        spool_dir.mkdir(parents=True, exist_ok=True)

    @property
    def spool_dir(self) -> Path:
        """The folder that was given."""
        return self._spool_dir

    async def put(self, kept: KeptProduct, spool: Path) -> None:
        """Read the file and remove it."""
        self._objects[kept.object_name] = _taken(spool, kept), self._now()

    def open(self, kept: KeptProduct) -> None:
        """There are no files here."""
        self._content(kept)

    def path(self, kept: KeptProduct) -> None:
        """There are no files here."""

    def _content(self, kept: KeptProduct) -> bytes:
        found = self._objects.get(kept.object_name)
        if found is None:
            raise NotFoundError(f"product {kept.name} is not kept here", name=kept.name)
        return found[0]

    async def read(self, kept: KeptProduct, offset: int, size: int) -> AsyncIterator[bytes]:
        """Yield some bytes."""
        content = self._content(kept)
        for at in range(offset, offset + size, PIECE_BYTES_MAX):
            yield content[at : min(at + PIECE_BYTES_MAX, offset + size)]

    async def delete(self, kept: KeptProduct) -> None:
        """Forget a product."""
        self._objects.pop(kept.object_name, None)

    async def listing(self) -> list[KeptProduct]:
        """Return what is there."""
        found = [KeptProduct.parse(name, at) for name, (_, at) in self._objects.items()]
        return [kept for kept in found if kept is not None]

    async def sweep(self) -> int:
        """Remove what a dead process was making."""
        return sweep_folder(self._spool_dir)

    def free_bytes(self) -> None:
        """There is no telling."""

    def spool_free_bytes(self) -> int:
        """Return the room on the spool folder's disk."""
        return free_bytes_of(self._spool_dir)


def _taken(spool: Path, kept: KeptProduct) -> bytes:
    try:
        content = spool.read_bytes()
        spool.unlink()
    except OSError as error:
        raise TransientError(f"{spool} cannot be read: {error.strerror}") from error
    if len(content) != kept.size:
        raise TransientError(f"{spool} has not the size of product {kept.name}")
    return content
