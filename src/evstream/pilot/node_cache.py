"""Products that several pilots of a node need: one fetches each, the others link it."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from evstream.domain.errors import ConfigError
from evstream.ports import Clock, Offload

_LOG = logging.getLogger(__name__)

LOOK_S_FIRST = 0.02
LOOK_S_LONGEST = 0.5
WAIT_S_MAX = 60.0
"""Whoever waits for another pilot's fetch for longer fetches by itself."""
SHARE_MAX = 4
"""A product takes no more than this part of the cache; larger ones are not kept."""
LEFT_S = 3600.0
"""What a killed pilot had begun to copy is removed after so long."""
LOCK = "lock"


class NodeCache:
    """A folder that pilots of one user share; all of it can be lost.

    Each product has a folder by its key, with a file named after its sha256 and a lock, which
    dies with whoever holds it.

    Parameters
    ----------
    directory : Path
        On a disk of this machine; made if it is not there.
    bytes_max : int
        What was not used for longest goes when there is more.

    Raises
    ------
    ConfigError
        It cannot be used, or others could write to it.
    """

    def __init__(self, directory: Path, bytes_max: int, clock: Clock, offload: Offload) -> None:
        self._directory = directory
        self._bytes_max = bytes_max
        self._clock = clock
        self._offload = offload
        self._added = bytes_max
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            about = directory.stat()
        except OSError as error:
            raise ConfigError(
                f"{directory} cannot be used: {error}", hint="choose another node_cache"
            ) from error
        if about.st_uid != os.geteuid() or about.st_mode & 0o022:
            raise ConfigError(
                f"others may write to {directory}",
                hint="choose a node_cache that is yours alone (chmod 700)",
            )

    async def through(
        self,
        key: str,
        path: Path,
        bytes_max: int | None,
        fetch: Callable[[], Awaitable[Counter[str]]],
    ) -> Counter[str]:
        """Leave a product at a path, out of the cache or fetched; keep what was fetched.

        Returns
        -------
        Counter
            Bytes received, by source: ``node`` is this cache.
        """
        folder = self._directory / key[:2] / key
        waited_s, pause_s = 0.0, LOOK_S_FIRST
        while waited_s < WAIT_S_MAX:
            if (size := await self._find(folder, path, bytes_max)) is not None:
                return Counter(node=size)
            try:
                with self._held(folder) as is_held:
                    if is_held:
                        return await self._fetch(folder, path, bytes_max, fetch)
            except _CannotBeKeptError as error:
                _LOG.warning("the node's cache cannot be used: %s", error)
                break
            await self._clock.sleep(pause_s)
            waited_s, pause_s = waited_s + pause_s, min(2 * pause_s, LOOK_S_LONGEST)
        _clear(path)
        return await fetch()

    async def _fetch(
        self,
        folder: Path,
        path: Path,
        bytes_max: int | None,
        fetch: Callable[[], Awaitable[Counter[str]]],
    ) -> Counter[str]:
        # Somebody may have brought it between the look and the lock.
        if (size := await self._find(folder, path, bytes_max)) is not None:
            return Counter(node=size)
        # What is there may be a link to something kept, which must not be written over.
        _clear(path)
        received = await fetch()
        try:
            await self._offload(partial(self._keep, folder, path))
        except OSError as error:
            _LOG.warning("%s is not kept for other pilots: %s", path.name, error)
        return received

    @contextmanager
    def _held(self, folder: Path) -> Iterator[bool]:
        """Hold a product's lock, unless another does."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            # Removed at this moment, as what was not used for longest.
            yield False
            return
        except OSError as error:
            raise _CannotBeKeptError(str(error)) from error
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(lock)

    async def _find(self, folder: Path, path: Path, bytes_max: int | None) -> int | None:
        """Link a product to a path if it is there and right; return its size."""
        kept = _kept_in(folder)
        if kept is None:
            return None
        return await self._offload(partial(_take, kept, path, bytes_max))

    def _keep(self, folder: Path, path: Path) -> None:
        size = path.stat().st_size
        if size * SHARE_MAX > self._bytes_max:
            return
        # Shared by links, it must not change; whoever changes it nevertheless is found out.
        path.chmod(0o400)
        _link(path, folder / _sha256(path))
        self._added += size
        if self._added * 16 >= self._bytes_max:
            self._added = 0
            self._make_room()

    def _make_room(self) -> None:
        """Remove what was not used for longest, and what killed pilots left."""
        now = self._clock.now().timestamp()
        found: list[tuple[float, int, Path]] = []
        for folder in self._directory.glob("??/*"):
            for file in _files_in(folder):
                with suppress(OSError):
                    about = file.stat()
                    if file.suffix:
                        if now - about.st_mtime > LEFT_S:
                            file.unlink()
                    elif file.name != LOCK:
                        found.append((about.st_mtime, about.st_size, folder))
        total = sum(size for _, size, _ in found)
        for _, size, folder in sorted(found):
            if total <= self._bytes_max:
                break
            with self._held(folder) as is_held:
                if is_held:
                    shutil.rmtree(folder, ignore_errors=True)
                    total -= size


class _CannotBeKeptError(OSError):
    """The cache's disk is broken, full, or not ours."""


def _files_in(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _kept_in(folder: Path) -> Path | None:
    return next((file for file in _files_in(folder) if len(file.name) == 64), None)


def _clear(path: Path) -> None:
    path.unlink(missing_ok=True)


def _take(kept: Path, path: Path, bytes_max: int | None) -> int | None:
    """Link a kept product to a path and compare it; None if it is of no use."""
    try:
        size = kept.stat().st_size
        if bytes_max is not None and size > bytes_max:
            return None
        _clear(path)
        _link(kept, path)
        os.utime(kept)
    except OSError:
        # Removed meanwhile, or no room for a copy: fetching tells which.
        _clear(path)
        return None
    if _sha256(path) == kept.name:
        return size
    _LOG.warning("%s in the node's cache is damaged, and removed", kept)
    _clear(path)
    with suppress(OSError):
        kept.unlink()
    return None


def _link(source: Path, target: Path) -> None:
    """Have a file at a second place; a copy, where that is on another disk."""
    with suppress(FileExistsError):
        try:
            os.link(source, target)
        except OSError as error:
            if isinstance(error, FileExistsError | FileNotFoundError):
                raise
            partly = target.with_name(f"{target.name}.{os.getpid()}")
            try:
                shutil.copyfile(source, partly)
                partly.replace(target)
            except BaseException:
                partly.unlink(missing_ok=True)
                raise


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
