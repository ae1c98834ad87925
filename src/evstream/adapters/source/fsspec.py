"""Source files by path or URL: local ones and root:// directly, all others through fsspec.

fsspec and its backends are imported when a URL first needs them: a pilot whose input is
local never pays for them.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from evstream.adapters.source.failures import Trouble, errors_of, failure
from evstream.adapters.source.guarded_http import NO_TOKENS, check_host, client_maker
from evstream.adapters.source.origin_tokens import OriginTokens
from evstream.adapters.source.ranges import ByteRange, check_ranges, coalesce, truncated
from evstream.adapters.source.s3 import S3Objects, is_s3
from evstream.adapters.source.xrootd import Xrootd, is_xrootd
from evstream.domain.errors import ConfigError, EvstreamError, RequestError
from evstream.domain.names import text_without_secrets, without_secrets
from evstream.domain.source_rules import SourceRules
from evstream.ports.source import ByteSource

_LOG = logging.getLogger(__name__)

EVERYTHING = SourceRules()

CONNECT_S_MAX = 30.0
PROGRESS_S_MAX = 60.0
RECONNECTIONS_MAX = 2
"""So often what a broken connection has not brought is asked for again at once."""

GAP_BYTES_MAX = 32 << 10
SPAN_BYTES_MAX = 16 << 20

_IPV6_HOST = re.compile(r"(?<=://)([^/\[]*@)?\[[^\]/]*\]")

_WHOLE_FILES: set[str] = set()
_WHOLE_FILES_LOCK = threading.Lock()

_NOT_FOUND = {errno.ENOENT, errno.ENOTDIR}
_NOT_ALLOWED = {errno.EACCES, errno.EPERM}
_NAME_AT_FAULT = {errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP, errno.EILSEQ}
# What backends call the things that change when a file does.
_SIGNS = (
    *("ETag", "etag", "checksum", "Content-MD5", "md5Hash", "content_md5", "crc32c", "Digest"),
    *("mtime", "modified", "LastModified", "Last-Modified", "last_modified", "updated"),
    *("generation", "VersionId", "version_id", "ino"),
)


def translate(error: Exception, pfn: str) -> EvstreamError:
    """Return the error of ours that stands for a foreign one.

    Parameters
    ----------
    pfn : str
        What was being opened or read.
    """
    if isinstance(error, EvstreamError):
        return error
    # fsspec says "not found" for whatever keeps it from asking a web server.
    if isinstance(error, FileNotFoundError) and isinstance(error.__cause__, Exception):
        return translate(error.__cause__, pfn)
    name = without_secrets(pfn)
    what = text_without_secrets((str(error) or type(error).__name__).replace(pfn, name))
    # aiohttp says so even where no TLS is spoken.
    what = what.replace(" ssl:default", "")
    if isinstance(error, ImportError):
        return ConfigError(f"{name} needs a package: {what}", hint="install it, then try again")
    return failure(_trouble_of(error), pfn, what)


def _trouble_of(error: Exception) -> Trouble:
    """Return what is wrong where the system, or what fsspec opens files with, raises this."""
    status = getattr(error, "status", None)
    number = error.errno if isinstance(error, OSError) else None
    if status in (404, 410) or isinstance(error, FileNotFoundError) or number in _NOT_FOUND:
        return "missing"
    if status in (401, 403) or isinstance(error, PermissionError) or number in _NOT_ALLOWED:
        return "forbidden"
    if isinstance(error, EOFError) or status == 416:
        return "truncated"
    if number in _NAME_AT_FAULT or isinstance(error, ValueError):
        return "misnamed"
    if isinstance(status, int) and 400 <= status < 500 and status not in (408, 425, 429):
        return "refused"
    return "silent"


def _local_path(pfn: str) -> str | None:
    """Return the path of a local file, or None if the name is a URL of another kind."""
    if pfn.startswith("file:"):
        parts = urlsplit(pfn)
        if parts.netloc not in ("", "localhost"):
            raise RequestError(
                f"{without_secrets(pfn)} is on another host",
                hint="write file:///path for a local file",
                pfn=without_secrets(pfn),
            )
        return unquote(parts.path)
    if "://" in pfn or "::" in pfn:
        return None
    if not pfn.startswith("/"):
        # It would be looked for in whatever folder the service was started in.
        raise RequestError(
            f"{pfn} is a relative path", hint="give it from / on, or as a URL", pfn=pfn
        )
    return pfn


class LocalSource:
    """The `ByteSource` port on a file descriptor; reads at positions, without a seek.

    Close it, or use it as a context manager.
    """

    def __init__(self, pfn: str, path: str) -> None:
        self._pfn = pfn
        self._fd = -1
        with errors_of(pfn, translate):
            # O_NONBLOCK: a pipe that nobody writes to must not hold us up.
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            found = os.fstat(self._fd)
        self._size = found.st_size
        if not stat.S_ISREG(found.st_mode):
            self.close()
            raise RequestError(f"{pfn} is not a file", hint="give a file", pfn=pfn)

    @property
    def size(self) -> int:
        """Bytes in the file when it was opened."""
        return self._size

    def read_ranges(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Return the bytes of each ``(offset, size)``, in the order asked."""
        check_ranges(self._pfn, self._size, ranges)
        with errors_of(self._pfn, translate):
            return [self._read(offset, size) for offset, size in ranges]

    def _read(self, offset: int, size: int) -> bytes:
        data = os.pread(self._fd, size, offset)
        if len(data) == size:
            return data
        # The kernel returns at most 2 GiB a call; a file can also have been cut since.
        parts = [data]
        while data and (missing := size - sum(map(len, parts))):
            data = os.pread(self._fd, missing, offset + size - missing)
            parts.append(data)
        if sum(map(len, parts)) < size:
            raise truncated(self._pfn, offset, size, os.fstat(self._fd).st_size)
        return b"".join(parts)

    def close(self) -> None:
        """Give the descriptor back; again is no error."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class RemoteSource:
    """The `ByteSource` port on a file of an fsspec file system.

    Parameters
    ----------
    file_system
        An instance of `fsspec.AbstractFileSystem`.
    """

    def __init__(self, pfn: str, file_system: Any, path: str) -> None:
        self._pfn = pfn
        self._file_system = file_system
        self._path = path
        # Backends that are not asynchronous promise nothing about threads.
        self._one_by_one = None if file_system.async_impl else threading.Lock()
        self._size = _size_of(_info(file_system, path, pfn), pfn)

    @property
    def size(self) -> int:
        """Bytes in the file when it was opened."""
        return self._size

    def read_ranges(self, ranges: Sequence[ByteRange]) -> list[memoryview]:
        """Return the bytes of each ``(offset, size)``, in the order asked.

        Ranges that lie close together are fetched together.
        """
        check_ranges(without_secrets(self._pfn), self._size, ranges)
        groups = coalesce(ranges, GAP_BYTES_MAX, SPAN_BYTES_MAX)
        found = [memoryview(b"")] * len(ranges)
        contents = self._fetch([(start, stop) for start, stop, _ in groups])
        for (start, _, indices), content in zip(groups, contents, strict=True):
            for index in indices:
                offset, size = ranges[index]
                found[index] = content[offset - start : offset - start + size]
        return found

    def _fetch(self, spans: Sequence[tuple[int, int]]) -> list[memoryview]:
        if not spans:
            return []
        starts, stops = [start for start, _ in spans], [stop for _, stop in spans]
        paths = [self._path] * len(spans)
        with errors_of(self._pfn, translate):
            contents = self._cat(paths, starts, stops)
        return [
            self._whole(memoryview(content), start, stop)
            for content, start, stop in zip(contents, starts, stops, strict=True)
        ]

    def _cat(self, paths: list[str], starts: list[int], stops: list[int]) -> list[bytes]:
        """Return the spans; those of a connection that broke are asked for again by themselves."""
        with self._one_by_one or nullcontext():
            return self._cat_again(paths, starts, stops)

    def _cat_again(self, paths: list[str], starts: list[int], stops: list[int]) -> list[bytes]:
        contents: list[Any] = [None] * len(paths)
        missing = list(range(len(paths)))
        for left in reversed(range(RECONNECTIONS_MAX + 1)):
            found = self._file_system.cat_ranges(
                *([given[number] for number in missing] for given in (paths, starts, stops)),
                on_error="return",
            )
            for number, content in zip(missing, found, strict=True):
                contents[number] = content
            errors = [one for one in found if isinstance(one, Exception)]
            for error in errors:
                if not (left and _is_broken_connection(error)):
                    raise error
            missing = [n for n in missing if isinstance(contents[n], Exception)]
            if not missing:
                break
        return contents

    def _whole(self, content: memoryview, start: int, stop: int) -> memoryview:
        """Return what was asked for, or say that it is not there."""
        if len(content) == self._size > stop - start:
            # A web server that knows no ranges sends the whole file.
            _warn_of_whole_files(self._pfn)
            content = content[start:stop]
        if len(content) != stop - start:
            raise truncated(without_secrets(self._pfn), start, stop - start, start + len(content))
        return content


def _is_broken_connection(error: Exception) -> bool:
    """Tell whether a connection broke; a server that is slow, or not there, is another matter."""
    known = error if isinstance(error, OSError) else error.__cause__
    names = {kind.__name__ for kind in type(error).__mro__}
    broken = names & {"ClientPayloadError", "ServerDisconnectedError", "IncompleteRead"}
    return bool(broken) or isinstance(known, ConnectionResetError | BrokenPipeError)


def _warn_of_whole_files(pfn: str) -> None:
    """Say once of each server what every read from it costs."""
    server = without_secrets(pfn).partition("://")[2].partition("/")[0]
    with _WHOLE_FILES_LOCK:
        known = server in _WHOLE_FILES
        _WHOLE_FILES.add(server)
    if not known:
        _LOG.warning(
            "evstream: %s knows no byte ranges and sends the whole file for each part of it "
            "(first seen: %s); copy the files to a disk, or use another server",
            server,
            without_secrets(pfn),
        )


def _info(file_system: Any, path: str, pfn: str) -> Mapping[str, Any]:
    with errors_of(pfn, translate):
        # Listings that the backend remembers may be older than the file.
        file_system.invalidate_cache(path)
        info: Mapping[str, Any] = file_system.info(path)
    if info.get("type") == "directory":
        raise RequestError(
            f"{without_secrets(pfn)} is not a file", hint="give a file", pfn=without_secrets(pfn)
        )
    return info


def _size_of(info: Mapping[str, Any], pfn: str) -> int:
    size = info.get("size")
    if not isinstance(size, int):
        raise RequestError(
            f"the server of {without_secrets(pfn)} does not tell its size",
            hint="copy the file to a disk first",
            pfn=without_secrets(pfn),
        )
    return size


def _default_options(protocol: str, progress_s: float, *, own: bool) -> dict[str, Any]:
    """Return what makes a backend give up when nothing moves, where it can be told.

    Parameters
    ----------
    own : bool
        Nothing is restricted, so a proxy of the environment may be used. A service's rules
        say which addresses it opens, and a proxy would see to that instead.
    """
    if protocol in ("http", "https"):
        import aiohttp

        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_S_MAX, sock_read=progress_s
        )
        return {"client_kwargs": {"timeout": timeout, "trust_env": own}}
    # Of chains alone, such as simplecache::s3://...; objects by themselves are `S3Objects`'.
    if protocol in ("s3", "s3a"):
        times = {"connect_timeout": CONNECT_S_MAX, "read_timeout": progress_s}
        return {"config_kwargs": times}
    return {}


class FsspecOpener:
    """The `SourceOpener` port on local files and on whatever fsspec opens.

    Parameters
    ----------
    options : mapping, optional
        fsspec's storage options by protocol, laid over our time-outs.
    rules : SourceRules
        What may be opened; everything, unless said otherwise.
    ca_file, cert_file : str
        Whom to trust beside the system's authorities, and what to show who asks for a client
        certificate; over HTTP.
    progress_s : float
        A store that sends nothing for so long is taken for dead; totals have no limit.
    tokens : OriginTokens
        What is shown to which host, over HTTPS and roots://.
    """

    def __init__(
        self,
        options: Mapping[str, Mapping[str, Any]] | None = None,
        rules: SourceRules = EVERYTHING,
        ca_file: str = "",
        cert_file: str = "",
        progress_s: float = PROGRESS_S_MAX,
        tokens: OriginTokens = NO_TOKENS,
    ) -> None:
        self._progress_s = progress_s
        self._options = {name: dict(given) for name, given in (options or {}).items()}
        self._rules = rules
        self._xrootd = Xrootd(progress_s, tokens, rules)
        self._s3 = S3Objects(progress_s)
        if rules.networks is not None or ca_file or cert_file or tokens:
            maker = client_maker(rules, ca_file, cert_file, tokens)
            for protocol in ("http", "https"):
                self._options.setdefault(protocol, {}).setdefault("get_client", maker)

    def open(self, pfn: str) -> AbstractContextManager[ByteSource]:
        """Open a file for reading."""
        path = self._allowed_path(pfn)
        if path is not None:
            return LocalSource(pfn, path)
        if is_s3(pfn):
            return self._s3.open(pfn)
        return self._xrootd.open(pfn) if is_xrootd(pfn) else self._open_remote(pfn)

    def _allowed_path(self, pfn: str) -> str | None:
        """Return the path of a local file, and None for others; refuse what is not allowed."""
        path = _local_path(pfn)
        if path is None:
            check_host(self._rules, self._rules.check_url(pfn))
            return None
        if self._rules.roots is None:
            return path
        # What a link leads to is looked at, and opened.
        real = os.path.realpath(path)
        self._rules.check_path(real)
        return real

    @contextmanager
    def _open_remote(self, pfn: str) -> Iterator[ByteSource]:
        # Nothing to close: fsspec keeps its file systems and connections for the next.
        yield RemoteSource(pfn, *self._find(pfn))

    def _find(self, pfn: str) -> tuple[Any, str]:
        with errors_of(pfn, translate):
            import fsspec
            from fsspec.core import url_to_fs

            # fsspec takes the colons of an IPv6 address for its own, which chain file systems.
            is_chain = "::" in _IPV6_HOST.sub("", pfn)
            protocols = {link.partition("://")[0] for link in pfn.split("::")}
            if not is_chain:
                protocols = {pfn.partition("://")[0]}
            options = {
                protocol: {
                    **_default_options(
                        protocol, self._progress_s, own=self._rules.networks is None
                    ),
                    **self._options.get(protocol, {}),
                }
                for protocol in protocols
            }
            if _IPV6_HOST.search(pfn) and not is_chain:
                (protocol,) = protocols
                file_system = fsspec.filesystem(protocol, **options[protocol])
                return file_system, file_system._strip_protocol(pfn)
            file_system, path = url_to_fs(
                pfn, **{protocol: given for protocol, given in options.items() if given}
            )
            return file_system, path

    def signature(self, pfn: str) -> str:
        """Return size and date, ETag or checksum, whichever the store tells."""
        path = self._allowed_path(pfn)
        if path is not None:
            with errors_of(pfn, translate):
                found = Path(path).stat()
            return f"{found.st_size}-{found.st_mtime_ns}-{found.st_ino}"
        if is_xrootd(pfn):
            return self._xrootd.signature(pfn)
        if is_s3(pfn):
            return self._s3.signature(pfn)
        info = _info(*self._find(pfn), pfn)
        signs = {name: str(info[name]) for name in _SIGNS if info.get(name) is not None}
        return f"{_size_of(info, pfn)}-{json.dumps(signs, sort_keys=True)}"
