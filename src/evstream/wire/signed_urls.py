"""Signed URLs: who has one may do that one thing until it expires.

The signature covers method, path and expiry, and of the query what says where sources are
and for whom it is. What else stands there (such as a product's descriptor, which its key
already fixes) may come and go.

Each edge has keys of its own, a new one each epoch, all derived from one secret that the
heads share. An edge is given its own keys and no secret, so that it can forge URLs to
nobody but itself, and one that is taken away is worth little soon.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Protocol
from urllib.parse import quote, quote_plus

from evstream.domain.dataset import Fingerprint, SourceFile
from evstream.domain.descriptor import Descriptor
from evstream.domain.errors import AccessError, RequestError
from evstream.domain.lanes import Asker
from evstream.domain.names import without_secrets

DESCRIPTOR_IN_URL_MAX = 8000
"""Characters; a longer descriptor must be registered with whoever serves it."""
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_.~/-]+")
_WINDOW_BITS = 12
_MEMORY_LEVEL = 5
_DESCRIPTOR_BYTES_MAX = 4 << 20

EPOCH = timedelta(days=1)
"""How long new URLs are signed with one key."""
URL_LIFE_MAX = timedelta(days=366)
BOUND = ("f", "w")
"""Parameters of a query that the signature covers where they are there."""


class KeyRing(Protocol):
    """The keys of one server of signed URLs, by the number of their epoch."""

    def key(self, epoch: int) -> bytes | None:
        """Return the key of an epoch, or None where it is not to be had."""
        ...


class DerivedKeys:
    """All keys of a server, from the secret that the heads share.

    Parameters
    ----------
    secret : bytes
        At least 32 random bytes.
    name : str
        The edge that checks these signatures; empty for the heads themselves.
    """

    def __init__(self, secret: bytes, name: str = "") -> None:
        self._secret = secret
        self._name = name
        self._known: dict[int, bytes] = {}

    def key(self, epoch: int) -> bytes | None:
        """Return the key of an epoch."""
        if (known := self._known.get(epoch)) is None:
            text = f"evstream signed URLs\n{self._name}\n{epoch}".encode()
            known = hmac.new(self._secret, text, hashlib.sha256).digest()
            if len(self._known) > 1000:
                self._known.clear()
            self._known[epoch] = known
        return known

    def around(self, now: datetime, life: timedelta) -> dict[int, bytes]:
        """Return what checks URLs that live so long: past keys, today's and the next.

        The next, since a head that is away for a while hands out none.
        """
        first = epoch_of(now - life) - 1
        return {epoch: self.key(epoch) or b"" for epoch in range(first, epoch_of(now) + 3)}


class GivenKeys:
    """The keys that an edge was given."""

    def __init__(self, keys: Mapping[int, bytes] | None = None) -> None:
        self._keys = dict(keys or {})

    @property
    def all(self) -> dict[int, bytes]:
        """All of them, by epoch."""
        return dict(self._keys)

    def replace(self, keys: Mapping[int, bytes]) -> None:
        """Take these instead of all others."""
        self._keys = dict(keys)

    def key(self, epoch: int) -> bytes | None:
        """Return the key of an epoch, or None where it was not given."""
        return self._keys.get(epoch)


def epoch_of(moment: datetime) -> int:
    """Return the number of the epoch that a moment is in."""
    return int(moment.timestamp() // EPOCH.total_seconds())


@dataclass(frozen=True, slots=True)
class Signed:
    """That a URL was signed: by which key, and until when it is good (seconds since 1970)."""

    epoch: int
    key: bytes
    until: float


class UrlSigner:
    """Signs paths and checks them with the keys of one server.

    Parameters
    ----------
    keys : KeyRing
        Of the server that will check.
    life_max : timedelta
        No URL lives longer after the end of its key's epoch: a key that got out is worth
        nothing then.
    """

    def __init__(self, keys: KeyRing, life_max: timedelta = URL_LIFE_MAX) -> None:
        self._keys = keys
        self._life_max = life_max

    def sign(
        self,
        method: str,
        path: str,
        now: datetime,
        expires: datetime,
        bound: Mapping[str, str] | None = None,
        extra: str = "",
    ) -> str:
        """Return the path with expiry and signature, good for one method.

        Parameters
        ----------
        bound : mapping
            Parameters among `BOUND` that nobody may change.
        extra : str
            A query of parameters that anybody may.
        """
        epoch, until = epoch_of(now), int(expires.timestamp())
        key = self._keys.key(epoch)
        if key is None:
            raise AccessError("there is no key to sign URLs with", hint="wait for the head")
        bound = {name: value.replace("\n", " ") for name, value in (bound or {}).items()}
        signature = _signature(key, method, path, until, bound)
        # A claim has three such URLs: what needs no quoting is not looked at.
        among = "".join(f"&{name}={quote_plus(value)}" for name, value in bound.items())
        plain = path if _PLAIN_PATH.fullmatch(path) else quote(path)
        return f"{plain}?e={until}&k={epoch}{among}&s={signature}{'&' + extra if extra else ''}"

    def check(self, method: str, path: str, query: Mapping[str, str], now: datetime) -> Signed:
        """Accept a signed request; return what may be asked again by `still`.

        Raises
        ------
        AccessError
            The signature is not ours, or its time is over.
        """
        try:
            until, epoch, given = int(query["e"]), int(query["k"]), query["s"]
        except (KeyError, ValueError):
            raise AccessError("the URL is not signed", hint="ask for a new plan") from None
        key = self._keys.key(epoch) if epoch <= epoch_of(now) + 1 else None
        if key is None:
            raise AccessError("the URL's key is not known here", hint="ask for a new plan")
        bound = {name: query[name] for name in BOUND if name in query}
        if any("\n" in part for part in (path, *bound.values())):
            # Lines part what is signed: one of several lines could pass for several of them.
            raise AccessError("no signed URL has several lines", hint="ask for a new plan")
        # Whoever may GET may ask for the head of the same thing.
        method = "GET" if method == "HEAD" else method
        expected = _signature(key, method, path, until, bound)
        if not hmac.compare_digest(given.encode(), expected.encode()):
            raise AccessError("the URL's signature is wrong", hint="ask for a new plan")
        end = (epoch + 1) * EPOCH.total_seconds() + self._life_max.total_seconds()
        if now.timestamp() > min(until, end):
            raise AccessError("the URL has expired", hint="ask for a new plan")
        return Signed(epoch, key, min(until, end))

    def still(self, signed: Signed, now: datetime) -> bool:
        """Say whether what was accepted once would be accepted now."""
        return now.timestamp() <= signed.until and self._keys.key(signed.epoch) == signed.key


def _signature(key: bytes, method: str, path: str, until: int, bound: Mapping[str, str]) -> str:
    covered = "".join(f"\n{name}={bound[name]}" for name in sorted(bound))
    text = f"{method}\n{path}\n{until}{covered}".encode()
    # `hmac.digest` would let other threads go first, which takes longer than the digest.
    digest = _begun(key).copy()
    digest.update(text)
    return digest.hexdigest()[:40]


@lru_cache(64)
def _begun(key: bytes) -> hmac.HMAC:
    return hmac.new(key, digestmod=hashlib.sha256)


def packed_source(file: SourceFile) -> str:
    """Return where a file is and what it was, for a URL.

    Names that hold a secret, such as a password or a presigned query, are left out.
    """
    plain = {
        "lfn": file.lfn,
        "guid": file.guid,
        "format": file.format,
        "trees": file.trees,
        "fingerprint": file.fingerprint.canonical(),
        "pfns": [pfn for pfn in file.pfns if without_secrets(pfn) == pfn],
    }
    if file.checksums:
        plain["checksums"] = file.checksums
    return _packed(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode())


def source_from_query(packed: str) -> SourceFile:
    """Read what `packed_source` wrote.

    Raises
    ------
    RequestError
        It cannot be unpacked.
    """
    try:
        plain = json.loads(_unpacked(packed))
        return SourceFile(
            lfn=plain["lfn"],
            guid=plain["guid"],
            pfns=tuple(plain["pfns"]),
            fingerprint=Fingerprint(**plain["fingerprint"]),
            trees=plain["trees"],
            format=plain["format"],
            checksums=plain.get("checksums", {}),
        )
    except (ValueError, KeyError, TypeError, zlib.error) as error:
        raise RequestError(f"the source in the URL is damaged: {error}") from error


def packed_asker(asker: Asker) -> str:
    """Return for whom a product is, for a URL; nothing where nothing is known."""
    if asker == Asker():
        return ""
    return f"{asker.priority}~{int(asker.tail)}~{asker.site}~{asker.user}"


def asker_from_query(packed: str) -> Asker:
    """Read what `packed_asker` wrote.

    Raises
    ------
    RequestError
        It was written otherwise.
    """
    try:
        priority, tail, site, user = packed.split("~", 3)
        return Asker(user, int(priority), tail == "1", site)
    except ValueError as error:
        raise RequestError(f"the asker in the URL is damaged: {error}") from error


def descriptor_query(descriptor: Descriptor) -> str:
    """Return ``d=…`` for a URL, or nothing where the descriptor is too long for one."""
    packed = _packed(descriptor.canonical_bytes)
    return f"d={packed}" if len(packed) <= DESCRIPTOR_IN_URL_MAX else ""


def descriptor_from_query(packed: str, key: str) -> Descriptor:
    """Read what `descriptor_query` wrote of the product that a URL is of.

    Nobody signs it, so nothing but what has this key is read: a few kB that unpack to
    millions of brackets would keep a server busy for a second.

    Raises
    ------
    RequestError
        It cannot be unpacked, is larger than any descriptor should be, or another product's.
    """
    try:
        content = _unpacked(packed)
        if hashlib.sha256(content).hexdigest() != key:
            raise RequestError("the descriptor in the URL is another product's", key=key)
        return Descriptor.from_wire(json.loads(content))
    except (ValueError, RecursionError, zlib.error) as error:
        raise RequestError(f"the descriptor in the URL is damaged: {error}") from error


def _packed(content: bytes) -> str:
    # A small window: descriptors are small, and what costs is to make room for a large one.
    packer = zlib.compressobj(6, zlib.DEFLATED, _WINDOW_BITS, _MEMORY_LEVEL)
    packed = packer.compress(content) + packer.flush()
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def _unpacked(packed: str) -> bytes:
    unpacker = zlib.decompressobj()
    data = base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4))
    content = unpacker.decompress(data, _DESCRIPTOR_BYTES_MAX)
    if unpacker.unconsumed_tail:
        raise RequestError("what the URL carries is too large")
    return content
