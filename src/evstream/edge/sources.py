"""Source files, open and known to be what they were when registered."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from evstream.domain.dataset import Fingerprint, SourceFile
from evstream.domain.edges import BAD_REPLICAS_MAX, BadReplica
from evstream.domain.errors import (
    DataError,
    EvstreamError,
    NotFoundError,
    RequestError,
    SourceChangedError,
    TransientError,
    UnsupportedFormatError,
)
from evstream.domain.names import Pfn, without_secrets
from evstream.edge.replicas import Replicas, origin_of
from evstream.ports import ByteSource, Clock, FileIndex, Format, Formats, SourceOpener

_LOG = logging.getLogger(__name__)

OPEN_FILES_MAX = 64
BAD_MAX = BAD_REPLICAS_MAX
"""Bad replicas that wait for the head to be told."""

HEAD_BYTES = 100
"""In these a file says its UUID."""

T = TypeVar("T")


@dataclass(slots=True)
class OpenSource:
    """A replica that is open, with its index and the sign that it has not changed."""

    file: SourceFile
    pfn: Pfn
    signature: str
    source: ByteSource
    format: Format
    index: FileIndex
    stack: ExitStack
    users: int = 0
    looked_at: float = -math.inf


class FileCopy:
    """The `ByteSource` port on a copy of a file on this disk.

    Parameters
    ----------
    close : callable
        Called when it is not read any more, with whether its bytes were wrong.
    """

    def __init__(self, fd: int, size: int, close: Callable[[bool], None]) -> None:
        self._fd = fd
        self.size = size
        self.is_bad = False
        self._close = close

    def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of each ``(offset, size)``, in the order asked."""
        return [self._read(offset, size) for offset, size in ranges]

    def _read(self, offset: int, size: int) -> bytes:
        if offset < 0 or size < 0 or offset + size > self.size:
            raise DataError(f"{size} bytes at {offset} of {self.size} are asked for")
        parts: list[bytes] = []
        while missing := size - sum(map(len, parts)):
            part = os.pread(self._fd, missing, offset + size - missing)
            if not part:
                raise DataError("a copy of a source was cut short on the disk")
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Say that it is not read any more."""
        self._close(self.is_bad)


class Sources:
    """Keeps source files open, the longest unused closed first. Blocking; thread-safe.

    A replica is inspected when it is opened and refused if its fingerprint is not the
    registered one; after that its cheap signature is looked at on every use.

    Parameters
    ----------
    now : callable
        Seconds that never go back.
    look_s : float
        How long a signature is believed once it was looked at: far away, each look costs a
        round trip.
    """

    def __init__(
        self,
        opener: SourceOpener,
        formats: Formats,
        open_max: int = OPEN_FILES_MAX,
        now: Callable[[], float] = time.monotonic,
        look_s: float = 0.0,
    ) -> None:
        self._opener = opener
        self._formats = formats
        self._open_max = open_max
        self._lock = threading.Lock()
        self._open: OrderedDict[tuple[Fingerprint, Pfn], OpenSource] = OrderedDict()
        self._indices: OrderedDict[Fingerprint, FileIndex] = OrderedDict()
        self._told: OrderedDict[Fingerprint, FileIndex] = OrderedDict()
        self._bad: OrderedDict[tuple[Fingerprint, Pfn], BadReplica] = OrderedDict()
        self._now = now
        self._look_s = look_s
        self.replicas = Replicas(now)

    def encoder_id(self, format_name: str) -> str:
        """Return what, beside a descriptor, decides the bytes of a format's products.

        Raises
        ------
        RequestError
            There is no format of the name.
        """
        return self._formats.named(format_name).encoder_id

    def use(self, file: SourceFile, copy: FileCopy | None = None) -> SourceUse:
        """Return what reads a file: its copy on this disk first, if there is one. Close it."""
        return SourceUse(self, file, copy)

    def take_index(self, file: SourceFile, data: bytes) -> None:
        """Remember the index of a file, as `FileIndex.to_bytes` gave it to somebody else.

        A replica of this size that begins with this UUID is taken to be the file; it is not
        inspected.

        Raises
        ------
        DataError
            It cannot be read here, or is another file's.
        """
        index = self._formats.named(file.format).load(data)
        if Fingerprint(index.size, index.uuid, index.fingerprint) != file.fingerprint:
            raise DataError(f"the index of {file.lfn} is another file's", hint="inspect the file")
        with self._lock:
            self._told[file.fingerprint] = index
            while len(self._told) > self._open_max:
                self._told.popitem(last=False)

    def open_copy(self, file: SourceFile, copy: ByteSource) -> OpenSource:
        """Return a copy of a file as a source; only the first time is it inspected.

        Raises
        ------
        SourceChangedError
            It is not the file that was registered.
        """
        file_format = self._formats.named(file.format)
        with self._lock:
            index = self._indices.get(file.fingerprint)
        if index is None:
            index = self._inspected(Pfn(f"the copy of {file.lfn}"), file, copy, file_format)
        with self._lock:
            self._indices[file.fingerprint] = index
            self._indices.move_to_end(file.fingerprint)
            while len(self._indices) > self._open_max:
                self._indices.popitem(last=False)
        return OpenSource(file, Pfn(""), "", copy, file_format, index, ExitStack())

    def check_copy(self, file: SourceFile, fd: int) -> None:
        """Refuse a copy that is not the file that was registered.

        Raises
        ------
        SourceChangedError
        """
        with self._lock:
            self._indices.pop(file.fingerprint, None)
        self.open_copy(file, FileCopy(fd, file.fingerprint.size, lambda _: None))

    def origin(self, file: SourceFile) -> str:
        """Return where a file would be read from now; empty for this machine's disks."""
        return next(map(origin_of, self.replicas.in_order(file.pfns)), "")

    def acquire(self, file: SourceFile, pfn: Pfn) -> OpenSource:
        """Return a replica, open; give it back with `release`.

        Raises
        ------
        SourceChangedError
            It is not the file that was registered.
        EvstreamError
            It cannot be read.
        """
        with self._lock:
            found = self._open.get((file.fingerprint, pfn))
            if found is not None:
                found.users += 1
                self._open.move_to_end((file.fingerprint, pfn))
        if found is not None:
            try:
                if self._signature(found) == found.signature:
                    return found
            except EvstreamError:
                pass  # Opening it again tells what is the matter.
            self.forget(found)
            self.release(found)
        with _called_as_registered(file):
            opened = self._open_one(pfn, file)
        self._keep(opened)
        return opened

    def release(self, used: OpenSource) -> None:
        """Say that a source is no longer in use here."""
        with self._lock:
            used.users -= 1
            key = used.file.fingerprint, used.pfn
            idle = used.users == 0 and self._open.get(key) is not used
        if idle:
            used.stack.close()

    def forget(self, used: OpenSource) -> None:
        """Open a replica anew when it is needed next; whoever uses it goes on."""
        key = used.file.fingerprint, used.pfn
        with self._lock:
            if self._open.get(key) is used:
                del self._open[key]

    def check_unchanged(self, used: OpenSource) -> None:
        """Refuse what was read, if the file is no longer what it was.

        Raises
        ------
        SourceChangedError
        EvstreamError
            It cannot be told now, for the file is away.
        """
        with _called_as_registered(used.file):
            signature = self._signature(used)
        if signature != used.signature:
            raise SourceChangedError(
                f"{without_secrets(used.pfn)} changed while it was read",
                hint="restore it, or register the dataset again under a new name",
                pfn=without_secrets(used.pfn),
            )

    def report_bad(self, file: SourceFile, pfn: Pfn, error: EvstreamError) -> None:
        """Remember that a replica's bytes are wrong while another's are right."""
        self.remember_bad(BadReplica(file.fingerprint, pfn, error.message))
        _LOG.warning(
            "evstream: a replica of %s is bad, and another was read: %s", file.lfn, error.message
        )

    def remember_bad(self, found: BadReplica) -> None:
        """Keep what is to be told of a replica until `take_bad`."""
        with self._lock:
            self._bad[found.fingerprint, found.pfn] = found
            while len(self._bad) > BAD_MAX:
                self._bad.popitem(last=False)

    def take_bad(self) -> list[BadReplica]:
        """Return the replicas found bad since the last time."""
        with self._lock:
            found = list(self._bad.values())
            self._bad.clear()
        return found

    def close(self) -> None:
        """Close every file that is not in use."""
        with self._lock:
            idle = [source for source in self._open.values() if source.users == 0]
            self._open.clear()
        for source in idle:
            source.stack.close()

    def _signature(self, used: OpenSource) -> str:
        now = self._now()
        if now - used.looked_at < self._look_s:
            return used.signature
        signature = self._opener.signature(used.pfn)
        used.looked_at = now
        return signature

    def _open_one(self, pfn: Pfn, file: SourceFile) -> OpenSource:
        file_format = self._formats.named(file.format)
        with ExitStack() as stack:
            signature = self._opener.signature(pfn)
            source = stack.enter_context(self._opener.open(pfn))
            index = self._told_of(file, source)
            index = index or self._inspected(pfn, file, source, file_format)
            stays = stack.pop_all()
            opened = OpenSource(file, pfn, signature, source, file_format, index, stays, users=1)
            opened.looked_at = self._now()
            return opened

    def _told_of(self, file: SourceFile, source: ByteSource) -> FileIndex | None:
        """Return the index that was told of a file, if this is the file, by all that shows."""
        with self._lock:
            index = self._told.get(file.fingerprint)
        if index is None or source.size != index.size or not index.uuid:
            return None
        (head,) = source.read_ranges([(0, min(HEAD_BYTES, source.size))])
        return index if bytes.fromhex(index.uuid.replace("-", "")) in bytes(head) else None

    def _inspected(
        self, pfn: Pfn, file: SourceFile, source: ByteSource, file_format: Format
    ) -> FileIndex:
        with _readable_once(pfn):
            index = file_format.inspect(source)
        if Fingerprint(index.size, index.uuid, index.fingerprint) != file.fingerprint:
            raise SourceChangedError(
                f"{without_secrets(pfn)} is not the file that was registered",
                hint="restore it, or register the dataset again under a new name",
                pfn=without_secrets(pfn),
            )
        return index

    def _keep(self, opened: OpenSource) -> None:
        surplus: list[OpenSource] = []
        key = opened.file.fingerprint, opened.pfn
        with self._lock:
            replaced = self._open.pop(key, None)
            if replaced is not None and replaced.users == 0:
                surplus.append(replaced)
            self._open[key] = opened
            for other in list(self._open):
                if len(self._open) <= self._open_max:
                    break
                if self._open[other].users == 0:
                    surplus.append(self._open.pop(other))
        for source in surplus:
            source.stack.close()


class SourceUse:
    """Reads one file: from a replica, and from the next one where that fails.

    All replicas have one fingerprint, so what was begun with one goes on with another.
    Blocking; one thread at a time.
    """

    def __init__(self, sources: Sources, file: SourceFile, copy: FileCopy | None = None) -> None:
        self._sources = sources
        self._copy = copy
        self._opened: OpenSource | None = None
        self.file = file

    @property
    def origin(self) -> str:
        """Where it reads from now; empty for this machine's disks."""
        if self._copy is not None and not self._copy.is_bad:
            return ""
        return self._sources.origin(self.file)

    def run(self, work: Callable[[OpenSource], T]) -> T:
        """Return what work on a replica returns; it is done again from the start on the next.

        Raises
        ------
        EvstreamError
            No replica can be read, and why; or the work asks for what no replica has.
        """
        if self._copy is not None and not self._copy.is_bad:
            try:
                return work(self._sources.open_copy(self.file, self._copy))
            except UnsupportedFormatError:
                raise
            except (DataError, OSError) as error:
                # What is damaged on this disk may be whole where it came from.
                _LOG.warning("evstream: the copy of %s cannot be read: %s", self.file.lfn, error)
                self._copy.is_bad = True
        failures: list[tuple[Pfn, EvstreamError]] = []
        for pfn in self._in_order():
            opened = None
            try:
                opened = self._open(pfn)
                result = work(opened)
                self._sources.check_unchanged(opened)
            except EvstreamError as error:
                self._drop()
                if opened is not None and not _may_differ(error):
                    raise
                failures.append((pfn, error))
                # Damage that every replica shows is the file's own.
                if not isinstance(error, DataError) or isinstance(error, SourceChangedError):
                    self._sources.replicas.failed(pfn, error)
                continue
            self._sources.replicas.worked(pfn)
            self._tell(failures)
            return result
        raise _of_all(self.file, failures)

    def _in_order(self) -> list[Pfn]:
        replicas, pfns = self._sources.replicas, list(self.file.pfns)
        if self._opened is not None and not replicas.is_passed_over(self._opened.pfn):
            pfns.insert(0, self._opened.pfn)
        return replicas.in_order(pfns)

    def _open(self, pfn: Pfn) -> OpenSource:
        if self._opened is None or self._opened.pfn != pfn:
            self._give_back()
            self._opened = self._sources.acquire(self.file, pfn)
        return self._opened

    def _tell(self, failures: list[tuple[Pfn, EvstreamError]]) -> None:
        for pfn, error in failures:
            if isinstance(error, DataError):
                self._sources.replicas.failed(pfn, error)
                self._sources.report_bad(self.file, pfn, error)
            else:
                _LOG.info("evstream: another replica was read: %s", error.message)

    def _drop(self) -> None:
        """Give back what failed, and let nobody else begin with it."""
        if self._opened is not None:
            self._sources.forget(self._opened)
            self._give_back()

    def _give_back(self) -> None:
        if self._opened is not None:
            self._sources.release(self._opened)
            self._opened = None

    def close(self) -> None:
        """Give the replica back; again is no error."""
        self._give_back()
        if self._copy is not None:
            self._copy.close()
            self._copy = None


def _may_differ(error: EvstreamError) -> bool:
    """Tell whether work on another replica might do better than this error."""
    if isinstance(error, UnsupportedFormatError):
        return False
    # Openers say which file it was; whoever asks for what is in no replica is told without.
    return "pfn" in error.fields or not isinstance(error, RequestError)


def _of_all(file: SourceFile, failures: list[tuple[Pfn, EvstreamError]]) -> EvstreamError:
    """Return the error that stands for those of all replicas."""
    if not failures:
        return NotFoundError(f"{file.lfn} has no replica", hint="register where it is")
    errors = [error for _, error in failures]
    # While one replica may come back, nothing is lost yet.
    chosen = next((error for error in errors if isinstance(error, TransientError)), errors[-1])
    if len(errors) == 1:
        return chosen
    told = "; ".join(f"{without_secrets(pfn)}: {error.message}" for pfn, error in failures)
    return type(chosen)(
        f"no replica of {file.lfn} can be read: {told}", hint=chosen.hint, **chosen.fields
    )


async def tell_of_bad_replicas(
    sources: Sources,
    tell: Callable[[list[BadReplica]], Awaitable[None]],
    clock: Clock,
    every_s: float,
) -> None:
    """Tell the head of replicas that are bad, until cancelled; what cannot be told now waits."""
    while True:
        await clock.sleep(every_s)
        if not (found := sources.take_bad()):
            continue
        try:
            await tell(found)
        except TransientError:
            for one in found:
                sources.remember_bad(one)
        except EvstreamError as error:
            _LOG.warning("evstream: the head takes no word of bad replicas: %s", error)


@contextmanager
def _called_as_registered(file: SourceFile) -> Iterator[None]:
    """Say of a file that is gone what it was: its name is not what is wrong."""
    try:
        yield
    except NotFoundError as error:
        trees = ", ".join(f"{entries} entries in {tree}" for tree, entries in file.trees.items())
        raise NotFoundError(
            error.message,
            hint=f"it was registered as {file.lfn} with {trees}: bring it back, "
            "or register what is left under a new name",
            **error.fields,
        ) from error


@contextmanager
def _readable_once(pfn: str) -> Iterator[None]:
    """Say of a file whose own metadata are not to be read that it has changed: once they were."""
    try:
        yield
    except DataError as error:
        name = without_secrets(pfn)
        raise SourceChangedError(
            f"{name} is not the file that was registered: {error.message}",
            hint="restore it, or register the dataset again under a new name",
            pfn=name,
        ) from error
