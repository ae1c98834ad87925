"""Source files, open and known to be what they were when registered."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from evstream.domain.dataset import Fingerprint, SourceFile
from evstream.domain.errors import (
    DataError,
    EvstreamError,
    NotFoundError,
    SourceChangedError,
    TransientError,
)
from evstream.domain.names import without_secrets
from evstream.ports import ByteSource, FileIndex, Format, Formats, SourceOpener

OPEN_FILES_MAX = 64


@dataclass(slots=True)
class OpenSource:
    """A file that is open, with its index and the sign that it has not changed."""

    file: SourceFile
    pfn: str
    signature: str
    source: ByteSource
    format: Format
    index: FileIndex
    stack: ExitStack
    users: int = 0


class Sources:
    """Keeps source files open, the longest unused closed first. Blocking; thread-safe.

    A file is inspected when it is opened and refused if its fingerprint is not the
    registered one; after that its cheap signature is looked at on every use.
    """

    def __init__(
        self, opener: SourceOpener, formats: Formats, open_max: int = OPEN_FILES_MAX
    ) -> None:
        self._opener = opener
        self._formats = formats
        self._open_max = open_max
        self._lock = threading.Lock()
        self._open: OrderedDict[Fingerprint, OpenSource] = OrderedDict()

    def encoder_id(self, format_name: str) -> str:
        """Return what, beside a descriptor, decides the bytes of a format's products.

        Raises
        ------
        RequestError
            There is no format of the name.
        """
        return self._formats.named(format_name).encoder_id

    def acquire(self, file: SourceFile) -> OpenSource:
        """Return a file's source; give it back with `release`.

        Raises
        ------
        SourceChangedError
            No replica is the file that was registered.
        EvstreamError
            No replica can be read.
        """
        with self._lock:
            found = self._open.get(file.fingerprint)
            if found is not None:
                found.users += 1
                self._open.move_to_end(file.fingerprint)
        if found is not None:
            try:
                if self._opener.signature(found.pfn) == found.signature:
                    return found
            except EvstreamError:
                pass  # Opening it again tells what is the matter, or finds another replica.
            self._forget(file.fingerprint, found)
            self.release(found)
        return self._open_first(file)

    def release(self, used: OpenSource) -> None:
        """Say that a source is no longer in use here."""
        with self._lock:
            used.users -= 1
            idle = used.users == 0 and used not in self._open.values()
        if idle:
            used.stack.close()

    def check_unchanged(self, used: OpenSource) -> None:
        """Refuse what was read, if the file is no longer what it was.

        Raises
        ------
        SourceChangedError
        EvstreamError
            It cannot be told now, for the file is away.
        """
        with _called_as_registered(used.file):
            signature = self._opener.signature(used.pfn)
        if signature != used.signature:
            raise SourceChangedError(
                f"{without_secrets(used.pfn)} changed while it was read",
                hint="restore it, or register the dataset again under a new name",
                pfn=without_secrets(used.pfn),
            )

    def close(self) -> None:
        """Close every file that is not in use."""
        with self._lock:
            idle = [source for source in self._open.values() if source.users == 0]
            self._open.clear()
        for source in idle:
            source.stack.close()

    def _forget(self, fingerprint: Fingerprint, found: OpenSource) -> None:
        with self._lock:
            if self._open.get(fingerprint) is found:
                del self._open[fingerprint]

    def _open_first(self, file: SourceFile) -> OpenSource:
        errors: list[EvstreamError] = [NotFoundError(f"{file.lfn} has no replica")]
        for pfn in file.pfns:
            try:
                with _called_as_registered(file):
                    opened = self._open_one(pfn, file)
            except EvstreamError as failed:
                errors.append(failed)
                continue
            self._keep(file.fingerprint, opened)
            return opened
        # While one replica may come back, nothing is lost yet.
        raise next((error for error in errors if isinstance(error, TransientError)), errors[-1])

    def _open_one(self, pfn: str, file: SourceFile) -> OpenSource:
        file_format = self._formats.named(file.format)
        with ExitStack() as stack:
            signature = self._opener.signature(pfn)
            source = stack.enter_context(self._opener.open(pfn))
            with _readable_once(pfn):
                index = file_format.inspect(source)
            found = Fingerprint(index.size, index.uuid, index.fingerprint)
            if found != file.fingerprint:
                raise SourceChangedError(
                    f"{without_secrets(pfn)} is not the file that was registered",
                    hint="restore it, or register the dataset again under a new name",
                    pfn=without_secrets(pfn),
                )
            stays = stack.pop_all()
            return OpenSource(file, pfn, signature, source, file_format, index, stays, users=1)

    def _keep(self, fingerprint: Fingerprint, opened: OpenSource) -> None:
        surplus: list[OpenSource] = []
        with self._lock:
            replaced = self._open.pop(fingerprint, None)
            if replaced is not None and replaced.users == 0:
                surplus.append(replaced)
            self._open[fingerprint] = opened
            for key in list(self._open):
                if len(self._open) <= self._open_max:
                    break
                if self._open[key].users == 0:
                    surplus.append(self._open.pop(key))
        for source in surplus:
            source.stack.close()


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
