"""Source files behind s3://, by obstore: one client for each bucket, whose connections stay.

Endpoint and credentials are taken from the environment, as AWS' own tools take them:
``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID`` and so on. Without any, requests are not signed: a
cloud's metadata service is never asked, since a name that a user gave would lead there.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import Any

from evstream.adapters.source.failures import Trouble, errors_of, failure
from evstream.adapters.source.ranges import ByteRange, check_ranges, coalesce, truncated
from evstream.domain.errors import ConfigError, EvstreamError, RequestError
from evstream.domain.names import text_without_secrets, without_secrets

SCHEME = "s3"
CONNECT_S_MAX = 30.0
RETRIES_MAX = 2
GAP_BYTES_MAX = 32 << 10
SPAN_BYTES_MAX = 16 << 20
BUCKETS_MAX = 64

# obstore's errors, which is imported when a bucket first needs it.
_FORBIDDEN = ("PermissionDeniedError", "UnauthenticatedError")
_MISNAMED = ("InvalidPathError", "UnknownConfigurationKeyError")
CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


def is_s3(pfn: str) -> bool:
    """Tell whether a name is one of an object in a bucket."""
    return pfn.partition("://")[0] == SCHEME and "::" not in pfn


def trouble_of(error: Exception) -> Trouble:
    """Return what is wrong where obstore raises this."""
    name = type(error).__name__
    if isinstance(error, FileNotFoundError):
        return "missing"
    if isinstance(error, PermissionError) or name in _FORBIDDEN:
        return "forbidden"
    return "misnamed" if name in _MISNAMED else "silent"


def translated(error: Exception, pfn: str) -> EvstreamError:
    """Return the error of ours that stands for one of obstore's."""
    return failure(trouble_of(error), pfn, _first_line(error))


class S3Source:
    """The `ByteSource` port on an object of a bucket; nothing to close."""

    def __init__(self, pfn: str, bucket: Any, key: str) -> None:
        self._pfn = pfn
        self._bucket = bucket
        self._key = key
        with errors_of(pfn, translated):
            found = bucket.head(key)
        self._size = int(found["size"])
        self._signature = f"{self._size}-{found['e_tag']}-{found['last_modified']}"

    @property
    def size(self) -> int:
        """Bytes in the object when it was opened."""
        return self._size

    @property
    def signature(self) -> str:
        """Size, ETag and date, as the store told when the object was opened."""
        return self._signature

    def read_ranges(self, ranges: Sequence[ByteRange]) -> list[memoryview]:
        """Return the bytes of each ``(offset, size)``, in the order asked.

        What lies together is fetched together, several places at once.
        """
        check_ranges(without_secrets(self._pfn), self._size, ranges)
        groups = coalesce(ranges, GAP_BYTES_MAX, SPAN_BYTES_MAX)
        found = [memoryview(b"")] * len(ranges)
        wanted = [(start, stop) for start, stop, _ in groups if stop > start]
        contents = iter(self._fetch(wanted))
        for start, stop, indices in groups:
            content = next(contents) if stop > start else memoryview(b"")
            for index in indices:
                offset, size = ranges[index]
                found[index] = content[offset - start : offset - start + size]
        return found

    def _fetch(self, spans: list[tuple[int, int]]) -> list[memoryview]:
        if not spans:
            return []
        with errors_of(self._pfn, translated):
            contents = self._bucket.get_ranges(
                self._key, starts=[start for start, _ in spans], ends=[stop for _, stop in spans]
            )
        return [
            self._whole(memoryview(content), *span)
            for content, span in zip(contents, spans, strict=True)
        ]

    def _whole(self, content: memoryview, start: int, stop: int) -> memoryview:
        if len(content) != stop - start:
            raise truncated(without_secrets(self._pfn), start, stop - start, start + len(content))
        return content


class S3Objects:
    """Opens objects of buckets.

    Parameters
    ----------
    progress_s : float
        A store that sends nothing for so long is taken for dead; totals have no limit.
    """

    def __init__(self, progress_s: float) -> None:
        self._progress_s = progress_s
        self._bucket = lru_cache(maxsize=BUCKETS_MAX)(self._connect)

    def _connect(self, name: str) -> Any:
        obstore = _obstore(name)
        try:
            return obstore.store.S3Store(
                name,
                skip_signature=not any(os.environ.get(one) for one in CREDENTIALS),
                client_options={
                    # An endpoint is a setting of the machine's owner, who says whether it has TLS.
                    "allow_http": True,
                    "connect_timeout": timedelta(seconds=CONNECT_S_MAX),
                    "read_timeout": timedelta(seconds=self._progress_s),
                    "timeout": timedelta(days=1),
                },
                retry_config={
                    "max_retries": RETRIES_MAX,
                    "retry_timeout": timedelta(seconds=self._progress_s),
                },
            )
        except (ValueError, OSError, KeyError, obstore.exceptions.BaseError) as error:
            raise ConfigError(
                f"the bucket {name} cannot be used: {_first_line(error)}",
                hint="look at AWS_ENDPOINT_URL and the credentials",
            ) from error

    def _open(self, pfn: str) -> S3Source:
        bucket, _, key = pfn.partition("://")[2].partition("/")
        if not bucket or not key or key.endswith("/"):
            name = without_secrets(pfn)
            raise RequestError(f"{name} names no object", hint="give s3://BUCKET/KEY", pfn=name)
        return S3Source(pfn, self._bucket(bucket), key)

    @contextmanager
    def open(self, pfn: str) -> Iterator[S3Source]:
        """Open an object for reading."""
        yield self._open(pfn)

    def signature(self, pfn: str) -> str:
        """Return size, ETag and date."""
        return self._open(pfn).signature


def _first_line(error: Exception) -> str:
    """Return what an error says; obstore's go on with a whole picture of it."""
    return text_without_secrets(str(error)).strip().split("\n", 1)[0][:300]


def _obstore(bucket: str) -> Any:
    try:
        importlib.import_module("obstore.store")
        importlib.import_module("obstore.exceptions")
        return importlib.import_module("obstore")
    except ImportError as problem:
        raise ConfigError(
            f"s3://{bucket} needs a package: {problem}", hint="pip install 'evstream[s3]'"
        ) from problem
