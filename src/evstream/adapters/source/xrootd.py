"""Source files behind root://, by XRootD's own client.

Each open file has its handle: fsspec's back end shares one by name, and closes it under
whoever reads when another asks for the file's date. The client reconnects by itself, and
is redirected to another server of a federation where one fails; a request that brings no
answer in time is given up.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import math
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from evstream.adapters.source.failures import Trouble, failure
from evstream.adapters.source.guarded_http import check_host
from evstream.adapters.source.origin_tokens import OriginTokens
from evstream.adapters.source.ranges import ByteRange, check_ranges, coalesce, truncated
from evstream.domain.errors import (
    AccessError,
    ConfigError,
    EvstreamError,
    RequestError,
    SourceChangedError,
    TransientError,
)
from evstream.domain.names import text_without_secrets, without_secrets
from evstream.domain.source_rules import SourceRules

SCHEMES = ("root", "roots", "xroot", "xroots")
RANGES_MAX = 1024
"""Parts that a server takes in one vector read."""
PART_BYTES_MAX = 2_097_136
"""A part is no longer: servers' readv_ior_max."""
GAP_BYTES_MAX = 4 << 10
"""A place more in a vector read costs 16 bytes and no round trip: little is read for nothing."""
CLOSE_S_MAX = 5
IS_DIRECTORY = 2

_CLIENT = {"ConnectionWindow": 10, "StreamErrorWindow": 10, "TimeoutResolution": 1}
"""Seconds. By the client's defaults a server that was away for a moment is away for minutes."""

_TOKEN = re.compile(r"(authz=)[^&\s]*", re.IGNORECASE)

# Numbers of the protocol's errors, kXR_...
_NOT_FOUND = {3011, errno.ENOENT}
_NOT_ALLOWED = {3010, 3030, errno.EACCES, errno.EPERM}
_NAME_AT_FAULT = {3000, 3001, 3015, 3016}
_DAMAGED = {3019}


def is_xrootd(pfn: str) -> bool:
    """Tell whether a name is one that XRootD's client opens."""
    return pfn.partition("://")[0] in SCHEMES


def translated(status: Any, pfn: str) -> EvstreamError:
    """Return the error of ours that stands for a status of the client's."""
    name = without_secrets(pfn)
    told = _TOKEN.sub(r"\1...", str(status.message).strip())
    what = text_without_secrets(told.replace(pfn, name))
    code, number = status.code, status.errno
    trouble: Trouble = "silent"
    if code == status.errNotFound or number in _NOT_FOUND:
        trouble = "missing"
    elif code in (status.errAuthFailed, status.errLoginFailed) or number in _NOT_ALLOWED:
        trouble = "forbidden"
    elif code in (status.errCheckSumError, status.errDataError) or number in _DAMAGED:
        trouble = "damaged"
    elif code in (status.errInvalidArgs, status.errInvalidAddr) or number in _NAME_AT_FAULT:
        trouble = "misnamed"
    return failure(trouble, pfn, what)


@dataclass(frozen=True, slots=True)
class Guard:
    """What is shown to servers, and where they may be."""

    tokens: OriginTokens
    rules: SourceRules

    def check_place(self, file: Any, pfn: str) -> None:
        """Refuse a file that was opened where nothing may be read: redirects lead anywhere.

        Raises
        ------
        AccessError
        """
        if self.rules.networks is None:
            return
        server = str(file.get_property("DataServer") or "")
        host = urlsplit(f"//{server}").hostname or ""
        try:
            check_host(self.rules, host)
        except AccessError as error:
            with contextlib.suppress(Exception):
                file.close(timeout=CLOSE_S_MAX, callback=lambda *_: None)
            name = without_secrets(pfn)
            raise AccessError(
                f"{name} leads elsewhere: {error.message}", hint=error.hint, pfn=name
            ) from error


class XrootdSource:
    """The `ByteSource` port on a file behind root://. Close it."""

    def __init__(self, pfn: str, timeout_s: int, guard: Guard) -> None:
        self._pfn = pfn
        self._guard = guard
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._file, self._size, self._modified = self._open()

    def _open(self) -> tuple[Any, int, str]:
        file = _client(self._pfn).File()
        self._must(file.open(self._guard.tokens.with_token(self._pfn), timeout=self._timeout_s))
        self._guard.check_place(file, self._pfn)
        found = self._must(file.stat(timeout=self._timeout_s))
        return file, int(found.size), str(found.modtime)

    def _must(self, answer: tuple[Any, Any]) -> Any:
        status, found = answer
        if not status.ok:
            raise translated(status, self._pfn)
        return found

    def _ask(self, method: str, *arguments: Any) -> Any:
        """Return what the server answers; a file that the client gave up is opened again."""
        file = self._file
        try:
            return self._must(getattr(file, method)(*arguments, timeout=self._timeout_s))
        except ValueError:
            # So the client speaks of a file whose server could not be reached for long.
            file = self._opened_again(file)
        try:
            return self._must(getattr(file, method)(*arguments, timeout=self._timeout_s))
        except ValueError as error:
            name = without_secrets(self._pfn)
            raise TransientError(
                f"{name} does not answer: {error}", hint="try again", pfn=name
            ) from error

    def _opened_again(self, failed: Any) -> Any:
        with self._lock:
            if self._file is failed:
                file, size, modified = self._open()
                if (size, modified) != (self._size, self._modified):
                    name = without_secrets(self._pfn)
                    raise SourceChangedError(
                        f"{name} changed while it was read",
                        hint="restore it, or register the dataset again under a new name",
                        pfn=name,
                    )
                self._file = file
            return self._file

    @property
    def size(self) -> int:
        """Bytes in the file when it was opened."""
        return self._size

    def read_ranges(self, ranges: Sequence[ByteRange]) -> list[memoryview]:
        """Return the bytes of each ``(offset, size)``, in the order asked.

        What lies together is read together; several places are one vector read.
        """
        check_ranges(without_secrets(self._pfn), self._size, ranges)
        groups = coalesce(ranges, GAP_BYTES_MAX, PART_BYTES_MAX)
        contents = self._fetch([(start, stop - start) for start, stop, _ in groups])
        found = [memoryview(b"")] * len(ranges)
        for (start, _, indices), content in zip(groups, contents, strict=True):
            for index in indices:
                offset, size = ranges[index]
                found[index] = content[offset - start : offset - start + size]
        return found

    def _fetch(self, spans: list[ByteRange]) -> list[memoryview]:
        contents = [memoryview(b"")] * len(spans)
        small = [number for number, (_, size) in enumerate(spans) if size <= PART_BYTES_MAX]
        for number in set(range(len(spans))).difference(small if len(small) > 1 else ()):
            contents[number] = self._read(*spans[number])
        for first in range(0, len(small) if len(small) > 1 else 0, RANGES_MAX):
            numbers = small[first : first + RANGES_MAX]
            asked = [spans[number] for number in numbers]
            answer = self._ask("vector_read", asked)
            for number, part in zip(numbers, answer.chunks, strict=True):
                contents[number] = self._whole(part.buffer, *spans[number])
        return contents

    def _read(self, offset: int, size: int) -> memoryview:
        return self._whole(self._ask("read", offset, size), offset, size)

    def _whole(self, content: bytes, offset: int, size: int) -> memoryview:
        if len(content) != size:
            raise truncated(without_secrets(self._pfn), offset, size, offset + len(content))
        return memoryview(content)

    @property
    def signature(self) -> str:
        """Size and date, as the server told when the file was opened."""
        return f"{self._size}-{self._modified}"

    def close(self) -> None:
        """Close the file, without waiting for a server that may be away."""
        with contextlib.suppress(Exception):
            self._file.close(timeout=CLOSE_S_MAX, callback=lambda *_: None)


class Xrootd:
    """Opens files behind root://.

    Parameters
    ----------
    timeout_s : float
        A request that brings nothing for so long is given up.
    tokens : OriginTokens
        What is shown to which host.
    rules : SourceRules
        Where servers may be that a redirect leads to.
    """

    def __init__(self, timeout_s: float, tokens: OriginTokens, rules: SourceRules) -> None:
        self._guard = Guard(tokens, rules)
        self._timeout_s = math.ceil(timeout_s)

    @contextmanager
    def open(self, pfn: str) -> Iterator[XrootdSource]:
        """Open a file for reading."""
        source = XrootdSource(pfn, self._timeout_s, self._guard)
        try:
            yield source
        finally:
            source.close()

    def signature(self, pfn: str) -> str:
        """Return size and date; the file is not opened."""
        url = _client(pfn).URL(self._guard.tokens.with_token(pfn))
        if not url.is_valid() or not url.path:
            name = without_secrets(pfn)
            raise RequestError(f"{name} cannot be opened", hint="check its name", pfn=name)
        login = self._guard.tokens.with_login(f"{url.protocol}://{url.hostid}/")
        server = _client(pfn).FileSystem(login)
        status, found = server.stat(url.path_with_params, timeout=self._timeout_s)
        if not status.ok:
            raise translated(status, pfn)
        if found.flags & IS_DIRECTORY:
            name = without_secrets(pfn)
            raise RequestError(f"{name} is not a file", hint="give a file", pfn=name)
        return f"{found.size}-{found.modtime}"


@cache
def _client_module() -> Any:
    client = importlib.import_module("XRootD.client")
    for name, value in _CLIENT.items():
        # What the environment says (XRD_...) stands: then this changes nothing.
        client.EnvPutInt(name, value)
    return client


def _client(pfn: str) -> Any:
    try:
        return _client_module()
    except ImportError as problem:
        raise ConfigError(
            f"{without_secrets(pfn)} needs a package: {problem}",
            hint="pip install 'evstream[xrootd]'",
        ) from problem
