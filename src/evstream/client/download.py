"""A product's file as it grows: parts from several connections, as long as they are of one ETag."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx2

from evstream.domain.errors import TooLargeError, TransientError, WrongBytesError
from evstream.domain.names import without_secrets
from evstream.wire.messages import DeliveryPlan

Fits = Callable[[Path], bool]

PIECE_BYTES = 1 << 20
PART_BYTES = 4 << 20
"""A large product is asked for in parts of this size, several at once."""


class Check:
    """Size and digest of bytes on their way."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin again."""
        self.size = 0
        self._sha256 = hashlib.sha256()

    def add(self, piece: bytes) -> None:
        """Take what comes next."""
        self.size += len(piece)
        self._sha256.update(piece)

    @property
    def sha256(self) -> str:
        """The digest, in hexadecimal digits."""
        return self._sha256.hexdigest()


@dataclass(eq=False, slots=True)
class Part:
    """Bytes that one connection brings.

    Attributes
    ----------
    at : int
        Where its next byte goes.
    stop : int or None
        Where it ends; None is where the product does.
    beginning : int
        Which one of the product's; it is of no use when the product is begun again.
    """

    at: int
    stop: int | None
    beginning: int


class Download:
    """A file that grows over several connections, as long as the ETag stays.

    Attributes
    ----------
    received : Counter
        Bytes, repeats included, by who sent them.
    size : int or None
        Of the whole product, once somebody has told it.
    sized : asyncio.Event
        Set when somebody has, or when whoever asked first has ended.
    best : int
        The most bytes that were there at once.
    may_hedge : bool
        Whether somebody else may be asked as well while an answer is late.
    straight : str
        Where the last answer came from, if that is not the service: parts go there directly.
    """

    def __init__(self, path: Path, bytes_max: int | None, fits: Fits | None) -> None:
        self._path = path
        self._bytes_max = bytes_max
        self._fits = fits
        self._check = Check()
        self._senders: set[str] = set()
        self._by_service = False
        self._from = ""
        self._beginning = 0
        self._active: list[Part] = []
        self.received: Counter[str] = Counter()
        self.sized = asyncio.Event()
        self.straight = ""
        self.best = 0
        self.may_hedge = True
        self._file = path.open("w+b", buffering=0)
        self._restart()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _restart(self) -> None:
        self._beginning += 1
        self._check.restart()
        self._senders.clear()
        self._etag = self._promised = ""
        self._missing: list[tuple[int, int | None]] = [(0, None)]
        self._written = 0
        self.size: int | None = None

    @property
    def _is_known(self) -> bool:
        """Whether somebody has told what it is, so that others may send the rest of it."""
        return self._written > 0 or self.size is not None

    @property
    def sends_parts(self) -> bool:
        """Whether the rest may come in parts: who sends it can, and says when it changes."""
        return self.size is not None and self.size > PART_BYTES and self._etag.startswith('"')

    def take(self, *, split: bool = False) -> Part | None:
        """Return what is to be asked for next; None if nothing is left.

        Parameters
        ----------
        split : bool
            No more than a part, though all of the rest could be had at once.
        """
        if not self._missing:
            return None
        start, stop = self._missing.pop(0)
        part = Part(start, stop, self._beginning)
        if split and (stop is None or stop - start > PART_BYTES + PART_BYTES // 2):
            part.stop = start + PART_BYTES
            if stop is not None:
                self._missing.insert(0, (part.stop, stop))
        self._active.append(part)
        return part

    def put_back(self, part: Part) -> None:
        """Note that nobody brings a part any more; what is missing of it is asked for again."""
        if part not in self._active:
            return
        self._active.remove(part)
        if part.beginning != self._beginning:
            return
        if part.stop is None or part.at < part.stop:
            stop = part.stop if self.size is not None else None
            self._missing.append((part.at, stop))
            self._missing.sort(key=lambda piece: piece[0])
        self._digest()

    def headers(self, part: Part) -> dict[str, str]:
        """Return what asks for a part."""
        if part.at == 0 and part.stop is None:
            return {}
        last = "" if part.stop is None or part.stop == self.size else part.stop - 1
        headers = {"Range": f"bytes={part.at}-{last}"}
        if not self._is_known:
            return headers
        # Without one, nobody can tell whether it is still the same.
        return headers | {"If-Range": self._etag} if self._etag else {}

    def begin(self, part: Part, response: httpx2.Response, *, by_service: bool) -> None:
        """Take the head of an answer.

        Raises
        ------
        TooLargeError
            There are more bytes than may be.
        TransientError
            It is not what was asked for.
        """
        length = response.headers.get("Content-Length")
        etag = response.headers.get("ETag", "")
        if response.status_code == 206:
            start, size = _place(response.headers, part)
            if start != part.at or (self._is_known and etag != self._etag):
                raise TransientError(f"{_plain(response)} sent another range than was asked for")
        else:
            size = None if length is None else int(length)
            if self._written or part.at or len(self._active) > 1:
                self._restart()
            part.at, part.stop, part.beginning = 0, size, self._beginning
            self._missing = []
        if self._bytes_max is not None and (size or 0) > self._bytes_max:
            raise TooLargeError(f"the product has {size} bytes", bytes_max=self._bytes_max)
        if self.size is None and size is not None:
            if part.stop is not None and part.stop < size:
                self._missing.append((part.stop, size))
            else:
                part.stop = size
        self.size = self.size if size is None else size
        self._etag = etag
        self._promised = sha256_promised(response.headers) or self._promised
        # Who was asked, or whom that one has sent us to.
        self._senders.add(response.url.netloc.decode())
        self._from = str(response.url)
        self._by_service = by_service
        self.straight = "" if by_service else self._from
        self.sized.set()

    def add(self, part: Part, piece: bytes, sender: str) -> bool:
        """Take bytes of a part; False if they are of no use any more."""
        self.received[sender] += len(piece)
        if part.beginning != self._beginning:
            return False
        if part.stop is not None:
            piece = piece[: part.stop - part.at]
        if part.at == self._check.size:
            self._check.add(piece)
        left = memoryview(piece)
        while left:
            left = left[os.pwrite(self._file.fileno(), left, part.at + len(piece) - len(left)) :]
        part.at += len(piece)
        self._written += len(piece)
        self.best = max(self.best, self._written)
        return True

    def end(self, part: Part) -> None:
        """Note the end of an answer.

        Raises
        ------
        TransientError
            It ended too early.
        """
        if part.beginning != self._beginning:
            return
        if part.stop is None:
            part.stop = self.size = part.at
        if part.at < part.stop:
            raise TransientError(f"{without_secrets(self._from)} ended too early")

    def _digest(self) -> None:
        """Digest what has come out of order, as far as nothing before it is missing."""
        there = [part.at for part in self._active] + [start for start, _ in self._missing]
        stop = min(there, default=self.size or 0)
        while self._check.size < stop:
            size = min(PIECE_BYTES, stop - self._check.size)
            self._check.add(os.pread(self._file.fileno(), size, self._check.size))

    def check(self, plan: DeliveryPlan) -> None:
        """Compare what came with the digests that the sender and the plan promised, if they did.

        Whoever names no encoder promises what the plan says. What the service itself sends is
        newer than the plan, which tells what some edge has. Of what nobody else knows, at
        least what shows is looked at.

        Raises
        ------
        WrongBytesError
            It is not right; it is begun anew.
        """
        # What was begun anew may have been longer.
        self._file.truncate(self._check.size)
        etag = self._etag.removeprefix("W/") or plan.etag
        mixed = len(self._senders) > 1
        newer = self._by_service and not mixed
        planned = plan.sha256 if etag == plan.etag and not newer else ""
        if not {self._promised, planned, self._check.sha256} <= {"", self._check.sha256}:
            raise self._wrong("sent other bytes than were promised", etag, mixed)
        if self._fits is not None and not self._fits(self._path):
            raise self._wrong("sent another product, or a part of it", etag, mixed, is_other=True)

    def _wrong(
        self, what: str, etag: str, mixed: bool, *, is_other: bool = False
    ) -> WrongBytesError:
        wrong = WrongBytesError(
            f"{without_secrets(self._from)} {what}",
            url=self._from,
            etag=etag,
            sha256=self._check.sha256,
            mixed=mixed,
            is_other=is_other,
        )
        self._restart()
        return wrong


def _plain(response: httpx2.Response) -> str:
    return without_secrets(str(response.url))


def _place(headers: Mapping[str, str], part: Part) -> tuple[int, int | None]:
    """Return where a range begins, and the size of all, if that is told."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))
    if found is not None:
        return int(found.group(1)), None if found.group(2) == "*" else int(found.group(2))
    length = headers.get("Content-Length")
    # Of what goes on to the end, that tells as much.
    return part.at, part.at + int(length) if length is not None and part.stop is None else None


def sha256_promised(headers: Mapping[str, str]) -> str:
    """Return the digest of ``Repr-Digest`` in hexadecimal digits (RFC 9530), or nothing."""
    found = re.search(r"sha-256=:([A-Za-z0-9+/]{43}=):", headers.get("Repr-Digest", ""))
    return base64.b64decode(found.group(1)).hex() if found else ""
