"""An output store in a folder of a local or shared file system.

An object is written to a file in ``.partial/`` first, flushed, and then linked to its
name, which fails if the name is taken: so it appears whole or not at all and is never
overwritten. Its digests are kept in an extended attribute of the file, set before the
link; where there are none (or the size is not the one noted), they are computed again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import itertools
import os
import secrets
import stat
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

from evstream.adapters.storage.names import PIECE_BYTES_MAX, check_name, check_offset
from evstream.adapters.storage.together import Together
from evstream.domain.errors import (
    ConfigError,
    ConflictError,
    EvstreamError,
    NotFoundError,
    RequestError,
    TransientError,
)
from evstream.domain.names import Pfn
from evstream.ports.offload import Offload
from evstream.ports.storage import Stored

PARTIAL = ".partial"
IDENTITY = ".store/id"
WRITE_BYTES = 4 << 20
"""Content is gathered to so many bytes before a thread is asked to write them."""
SMALL_BYTES_MAX = 64 << 10
"""Objects of so many bytes are brought to the disk together with others that come meanwhile."""
GROUPS_MAX = 4
"""While one group waits for the disk, another is written."""

_ATTRIBUTE = "user.evstream.digests"
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV, errno.ENOSYS}
_NAME_AT_FAULT = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL}
_TREE_AT_FAULT = {errno.ENOTDIR, errno.EISDIR, errno.EEXIST}


def translate(error: OSError, name: str) -> EvstreamError:
    """Return the error of ours that stands for one of the file system's."""
    number, what = error.errno or 0, error.strerror or str(error)
    if number in _NO_SPACE:
        return TransientError(
            f"no space is left in the output store for {name}",
            hint="free space on its disk; what was written so far has been removed",
            name=name,
        )
    if number == errno.ENOENT:
        return NotFoundError(f"there is no object {name}", name=name)
    if number in _NOT_ALLOWED:
        return ConfigError(
            f"the output store cannot write {name}: {what}",
            hint="check the rights of its folder",
            name=name,
        )
    if number in _NAME_AT_FAULT:
        return RequestError(
            f"{name!r} cannot name an object: {what}", hint="use a shorter name", name=name
        )
    if number in _TREE_AT_FAULT:
        return ConflictError(
            f"{name} is in the way of another object", hint="choose another name", name=name
        )
    return TransientError(
        f"the output store does not answer for {name}: {what}",
        hint="try again; if it goes on, look at its disk",
        name=name,
    )


@contextlib.contextmanager
def _translated(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise translate(error, name) from error


class _Upload:
    """Content on its way to a name: gathered, written to a private file, published.

    Everything but `add` blocks. The file is locked while it is open, so that a store
    that is opened over the same folder meanwhile does not take it for a leftover.

    Attributes
    ----------
    name, path
        Of the object.
    error : EvstreamError or None
        Why it is not published, nor ever will be.
    """

    def __init__(self, partial: Path, name: str, path: Path) -> None:
        self.name = name
        self.path = path
        self.error: EvstreamError | None = None
        self._path = partial
        self._fd = -1
        self._gathered: list[bytes] = []
        self._gathered_bytes = 0
        self._sha256 = hashlib.sha256()
        self._adler32 = 1
        self._size = 0

    def add(self, piece: bytes) -> bool:
        """Gather a piece; return whether it is time to write."""
        self._gathered.append(piece)
        self._gathered_bytes += len(piece)
        return self._gathered_bytes >= WRITE_BYTES

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        while self._fd < 0:
            try:
                fd = os.open(self._path, flags, 0o666)
            except FileNotFoundError as error:
                raise ConfigError(
                    f"output folder {self._path.parent.parent} has vanished",
                    hint="bring it back, then restart",
                ) from error
            fcntl.flock(fd, fcntl.LOCK_SH)
            if os.fstat(fd).st_nlink:
                self._fd = fd
            else:
                # Swept between its creation and its lock.
                os.close(fd)

    def write(self) -> None:
        """Write what has been gathered."""
        self._open()
        for piece in self._gathered:
            self._sha256.update(piece)
            self._adler32 = zlib.adler32(piece, self._adler32)
            self._size += len(piece)
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        self._gathered, self._gathered_bytes = [], 0

    @property
    def is_small(self) -> bool:
        """Whether nothing is written yet, and there is not much."""
        return self._fd < 0 and self._gathered_bytes <= SMALL_BYTES_MAX

    def described(self) -> Stored:
        """Describe what has been written."""
        return Stored(self.name, self._size, self._sha256.hexdigest(), f"{self._adler32:08x}")

    def flush(self) -> None:
        """Note the digests and bring the content to the disk."""
        _remember(self._fd, self.described())
        os.fsync(self._fd)

    def link(self) -> None:
        """Give the file its name, which must be free."""
        try:
            os.link(self._path, self.path)
        except OSError as error:
            if error.errno in _NO_LINKS:
                raise ConfigError(
                    f"{self.path.parent} is on a file system without hard links: {error.strerror}",
                    hint="keep outputs on another one",
                ) from error
            raise

    def discard(self) -> None:
        """Remove the private name; the object stays if it has another by now."""
        if self._fd >= 0:
            self._path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = -1


def _remember(fd: int, stored: Stored) -> None:
    """Note digests in an attribute, where the file system has them; only speed is lost."""
    text = f"{stored.size} {stored.sha256} {stored.adler32}"
    with contextlib.suppress(OSError):
        os.setxattr(fd, _ATTRIBUTE, text.encode())


def _describe(fd: int, name: str) -> Stored:
    """Describe an open object from its attribute, else from its bytes."""
    size = os.fstat(fd).st_size
    with contextlib.suppress(OSError, ValueError):
        noted, sha256, adler32 = os.getxattr(fd, _ATTRIBUTE).decode().split()
        if int(noted) == size:
            return Stored(name, size, sha256, adler32)
    digest, adler, offset = hashlib.sha256(), 1, 0
    while piece := os.pread(fd, PIECE_BYTES_MAX, offset):
        digest.update(piece)
        adler = zlib.adler32(piece, adler)
        offset += len(piece)
    return Stored(name, offset, digest.hexdigest(), f"{adler:08x}")


def _each(uploads: Sequence[_Upload], step: Callable[[_Upload], None]) -> None:
    """Do a step for those that have not failed."""
    for upload in uploads:
        if upload.error is None:
            try:
                step(upload)
            except OSError as error:
                upload.error = translate(error, upload.name)
            except EvstreamError as error:
                upload.error = error


def _flush_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class LocalStore:
    """The `OutputStore` port on a folder. Opening it makes the folder and sweeps it.

    Parameters
    ----------
    root : Path
        Several stores may share it, also from several processes.
    offload : Offload
        Where file work runs.

    Raises
    ------
    ConfigError
        The folder cannot be made or written.
    """

    def __init__(self, root: Path, offload: Offload) -> None:
        self._root = root
        self._partial = root / PARTIAL
        self._offload = offload
        self._publish_soon = Together(offload, self._publish, GROUPS_MAX)
        self._durable_folders: set[Path] = set()
        # Private to this store, whoever else shares the folder.
        self._prefix = secrets.token_hex(12)
        self._numbers = itertools.count()
        try:
            self._partial.mkdir(parents=True, exist_ok=True)
            (root / IDENTITY).parent.mkdir(exist_ok=True)
            self._sweep()
        except OSError as error:
            raise ConfigError(
                f"output folder {root} cannot be used: {error.strerror}",
                hint="choose one that you may write to",
                path=str(root),
            ) from error

    def _sweep(self) -> None:
        """Remove what a killed writer left; what another one still writes is locked."""
        for path in self._partial.iterdir():
            with contextlib.suppress(BlockingIOError, FileNotFoundError):
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
                finally:
                    os.close(fd)

    def identity(self) -> str:
        """Return the id that the folder was given; empty if it was given none.

        Raises
        ------
        ConfigError
            It cannot be read.
        """
        path = self._root / IDENTITY
        try:
            return path.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{path} cannot be read: {error}", hint="look at its owner and mode"
            ) from error

    def identify(self, identity: str) -> None:
        """Give the folder an id for good, durably; one that it has stays.

        Raises
        ------
        ConfigError
            It cannot be written.
        """
        path = self._root / IDENTITY
        partial = path.with_name(f"{path.name}.{self._prefix}")
        try:
            try:
                with partial.open("x", encoding="utf-8") as file:
                    file.write(f"{identity}\n")
                    file.flush()
                    os.fsync(file.fileno())
                with contextlib.suppress(FileExistsError):
                    os.link(partial, path)
            finally:
                partial.unlink(missing_ok=True)
            _flush_folder(path.parent)
            _flush_folder(self._root)
        except OSError as error:
            raise ConfigError(
                f"{path} cannot be written: {error.strerror}",
                hint="look at the folder's owner and mode",
            ) from error

    def _path(self, name: str) -> Path:
        return self._root / check_name(name)

    async def put(self, name: str, content: AsyncIterator[bytes]) -> Stored:
        """Store an object; the same content again under the same name is no error."""
        path = self._path(name)
        upload = _Upload(self._partial / f"{self._prefix}-{next(self._numbers)}", name, path)
        try:
            async for piece in content:
                if upload.add(piece):
                    with _translated(name):
                        await self._offload(upload.write)
        except BaseException:
            upload.discard()
            raise
        # From here on it is discarded by whoever publishes it.
        if upload.is_small:
            return await self._publish_soon(upload)
        (ended,) = await self._offload(lambda: self._publish([upload]))
        if isinstance(ended, EvstreamError):
            raise ended
        return ended

    def _publish(self, uploads: Sequence[_Upload]) -> list[Stored | EvstreamError]:
        """Bring content to the disk, and give it its names.

        Of several the first that is flushed brings most of the others along, as file systems
        that keep a journal write it for all; and folders are flushed once.
        """
        try:
            for step in _Upload.write, _Upload.flush, self._link:
                _each(uploads, step)
            for folder in {upload.path.parent for upload in uploads if upload.error is None}:
                try:
                    _flush_folder(folder)
                except OSError as error:
                    for upload in uploads:
                        if upload.path.parent == folder:
                            upload.error = upload.error or translate(error, upload.name)
        finally:
            for upload in uploads:
                upload.discard()
        return [upload.error or upload.described() for upload in uploads]

    def _link(self, upload: _Upload) -> None:
        folder = upload.path.parent
        self._make_folder(folder)
        try:
            upload.link()
        except FileNotFoundError:
            # Somebody removed the folder since it was made.
            self._durable_folders.clear()
            self._make_folder(folder)
            upload.link()
        except FileExistsError as error:
            if self._stat(upload.name, upload.path) != upload.described():
                raise ConflictError(
                    f"{upload.name} is stored with other content",
                    hint="choose another name",
                    name=upload.name,
                ) from error

    def _make_folder(self, folder: Path) -> None:
        """Make a folder and those above it, each known to its parent for good."""
        if folder in self._durable_folders or folder == self._root:
            return
        self._make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _flush_folder(folder.parent)
        self._durable_folders.add(folder)

    def places(self, name: str, life: timedelta) -> tuple[str, ...]:
        """Pilots need not see the folder: the service writes for them."""
        return ()

    def pfn(self, name: str) -> Pfn:
        """Return the path of an object's file."""
        return Pfn(str(self._path(name).absolute()))

    async def stat(self, name: str) -> Stored:
        """Describe an object."""
        path = self._path(name)
        return await self._offload(lambda: self._stat(name, path))

    def _stat(self, name: str, path: Path) -> Stored:
        with _translated(name), self._opened(path) as fd:
            return _describe(fd, name)

    @staticmethod
    @contextlib.contextmanager
    def _opened(path: Path) -> Iterator[int]:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except NotADirectoryError as error:
            raise FileNotFoundError(errno.ENOENT, error.strerror, str(path)) from error
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise FileNotFoundError(errno.ENOENT, "not a file", str(path))
            yield fd
        finally:
            os.close(fd)

    async def read(
        self, name: str, offset: int = 0, size: int | None = None
    ) -> AsyncIterator[bytes]:
        """Yield the bytes of an object from an offset on."""
        check_offset(offset, size)
        path = self._path(name)
        with contextlib.ExitStack() as stack:
            with _translated(name):
                fd = await self._offload(lambda: stack.enter_context(self._opened(path)))
            left = os.fstat(fd).st_size if size is None else size
            while left > 0:
                start, wanted = offset, min(left, PIECE_BYTES_MAX)
                with _translated(name):
                    piece = await self._offload(lambda: os.pread(fd, wanted, start))  # noqa: B023
                if not piece:
                    return
                yield piece
                offset += len(piece)
                left -= len(piece)

    async def names(self, prefix: str = "") -> list[str]:
        """Return the names that begin with a prefix, sorted."""
        return await self._offload(lambda: self._names(prefix))

    def _names(self, prefix: str) -> list[str]:
        found: list[str] = []
        # Only the folder that the prefix names needs to be walked.
        folder, _, _ = prefix.rpartition("/")
        if folder:
            check_name(folder)
        with _translated(prefix):
            for where, folders, entries in os.walk(self._root / folder):
                folders[:] = [name for name in folders if not name.startswith(".")]
                relative = Path(where).relative_to(self._root)
                found += [(relative / entry).as_posix() for entry in entries]
        return sorted(name for name in found if name.startswith(prefix))

    async def delete(self, name: str) -> None:
        """Remove an object; one that is not there is no error."""
        path = self._path(name)
        await self._offload(lambda: self._delete(name, path))

    @staticmethod
    def _delete(name: str, path: Path) -> None:
        # A folder, or a name below an object's, is no object.
        with _translated(name), contextlib.suppress(IsADirectoryError, NotADirectoryError):
            path.unlink(missing_ok=True)
