"""Products in a folder of this machine: a file each, its name says what is in it."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from evstream.adapters.product_store.spool_folder import discard, free_bytes_of, sweep_folder
from evstream.domain.errors import ConfigError, EvstreamError, NotFoundError, TransientError
from evstream.ports.offload import Offload
from evstream.ports.product_store import KeptProduct

PIECE_BYTES_MAX = 1 << 20
SPOOL = ".spool"
FANOUT_CHARS = 2
"""Products are spread over 256 folders: some file systems are slow with large ones."""


class DiskProductStore:
    """The `ProductStore` port on a folder, which may be wiped at any time.

    Parameters
    ----------
    folder : Path
        Made here if it is missing.
    others_read : bool
        Whether other users may read products, nginx's among them; the umask has no say. Who may
        enter the folder at all, its owner decides.

    Raises
    ------
    ConfigError
        The folder cannot be used.
    """

    def __init__(self, folder: Path, offload: Offload, *, others_read: bool = False) -> None:
        self._folder = folder
        self._file_mode, self._folder_mode = (0o644, 0o755) if others_read else (0o600, 0o700)
        self._offload = offload
        try:
            self.spool_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"{folder} cannot keep products: {error.strerror}",
                hint="look at the folder's owner and mode, or name another as cache",
            ) from error

    @property
    def spool_dir(self) -> Path:
        """On the same disk: what is whole is renamed."""
        return self._folder / SPOOL

    def path(self, kept: KeptProduct) -> str:
        """Return where a product is, below the folder."""
        return f"{kept.name[:FANOUT_CHARS]}/{kept.object_name}"

    async def put(self, kept: KeptProduct, spool: Path) -> None:
        """Bring the file to the disk and give it its name."""
        await self._offload(partial(self._put, kept, spool))

    def _put(self, kept: KeptProduct, spool: Path) -> None:
        path = self._folder / self.path(kept)
        try:
            fd = os.open(spool, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if os.fstat(fd).st_size != kept.size:
                    raise TransientError(f"{spool} has not the size of product {kept.name}")
                os.fchmod(fd, self._file_mode)
                # A name without its content would outlive a crash of the machine.
                os.fdatasync(fd)
            finally:
                os.close(fd)
            try:
                spool.replace(path)
            except FileNotFoundError:
                self._make_folder(path.parent)
                spool.replace(path)
        except OSError as error:
            discard(spool)
            raise _does_not_answer(error, kept) from error

    def _make_folder(self, folder: Path) -> None:
        """Make the folder of some products, as open as they are."""
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(self._folder_mode)

    def open(self, kept: KeptProduct) -> int:
        """Open a product's file; one of another size is removed."""
        # Not a Path: products are opened for each request.
        path = f"{self._folder}/{self.path(kept)}"
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise _translated(error, kept) from error
        if os.fstat(fd).st_size == kept.size:
            return fd
        os.close(fd)
        with contextlib.suppress(OSError):
            Path(path).unlink()
        raise NotFoundError(f"product {kept.name} was cut short on the disk")

    async def read(self, kept: KeptProduct, offset: int, size: int) -> AsyncIterator[bytes]:
        """Yield some bytes, read in threads."""
        fd = self.open(kept)
        try:
            stop = offset + size
            for at in range(offset, stop, PIECE_BYTES_MAX):
                wanted = min(PIECE_BYTES_MAX, stop - at)
                try:
                    piece = await self._offload(partial(os.pread, fd, wanted, at))
                except OSError as error:
                    raise _translated(error, kept) from error
                if len(piece) < wanted:
                    raise NotFoundError(f"product {kept.name} was cut short on the disk")
                yield piece
        finally:
            os.close(fd)

    async def delete(self, kept: KeptProduct) -> None:
        """Remove a product's file; whoever has it open reads on."""
        path = self._folder / self.path(kept)

        def remove() -> None:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                if error.errno != errno.ENOTDIR:
                    raise _translated(error, kept) from error

        await self._offload(remove)

    async def listing(self) -> list[KeptProduct]:
        """Look through the folder; files of other sizes than their names say are removed."""
        return await self._offload(self._list)

    def _list(self) -> list[KeptProduct]:
        found: list[KeptProduct] = []
        with contextlib.suppress(FileNotFoundError):
            for folder in self._folder.iterdir():
                if len(folder.name) == FANOUT_CHARS and folder.is_dir():
                    found += self._list_one(folder)
        return found

    def _list_one(self, folder: Path) -> list[KeptProduct]:
        found = []
        with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
            _open_as(folder, folder.stat(), self._folder_mode)
            for entry in entries:
                about = entry.stat(follow_symlinks=False)
                kept = KeptProduct.parse(entry.name, datetime.fromtimestamp(about.st_mtime, tz=UTC))
                if kept is not None and kept.size == about.st_size:
                    # It may be from a time when others read here, or did not.
                    _open_as(Path(entry.path), about, self._file_mode)
                    found.append(kept)
                elif kept is not None:
                    Path(entry.path).unlink(missing_ok=True)
        return found

    async def sweep(self) -> int:
        """Remove what a dead process was making."""
        return await self._offload(partial(sweep_folder, self.spool_dir))

    def free_bytes(self) -> int:
        """Return the room on the folder's disk."""
        return free_bytes_of(self._folder)

    def spool_free_bytes(self) -> int:
        """Return the same: it is one disk."""
        return free_bytes_of(self._folder)


def _open_as(path: Path, about: os.stat_result, mode: int) -> None:
    """Give a file or a folder of ours its mode, if it has another."""
    if stat.S_IMODE(about.st_mode) != mode:
        with contextlib.suppress(OSError):
            path.chmod(mode)


def _translated(error: OSError, kept: KeptProduct) -> EvstreamError:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return NotFoundError(f"product {kept.name} is not kept here", name=kept.name)
    return _does_not_answer(error, kept)


def _does_not_answer(error: OSError, kept: KeptProduct) -> EvstreamError:
    return TransientError(
        f"the product cache does not answer for {kept.name}: {error.strerror}",
        hint="look at its disk",
        name=kept.name,
    )
