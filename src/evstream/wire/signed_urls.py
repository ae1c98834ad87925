"""Signed URLs: who has one may do that one thing until it expires.

The signature covers method, path and expiry. What else stands in the query (such as
a product's descriptor, which its key already fixes) may come and go.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import zlib
from datetime import datetime
from urllib.parse import quote, urlencode

from evstream.domain.descriptor import Descriptor
from evstream.domain.errors import AccessError, RequestError

DESCRIPTOR_IN_URL_MAX = 8000
"""Characters; a longer descriptor must be registered with whoever serves it."""
_DESCRIPTOR_BYTES_MAX = 4 << 20


class UrlSigner:
    """Signs paths and checks them with one secret.

    Parameters
    ----------
    secret : bytes
        At least 32 random bytes, shared by whoever signs and whoever serves.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def sign(self, method: str, path: str, expires: datetime, extra: str = "") -> str:
        """Return the path with expiry and signature, good for one method."""
        until = int(expires.timestamp())
        query = urlencode({"e": until, "s": self._signature(method, path, until)})
        return f"{quote(path)}?{query}{'&' + extra if extra else ''}"

    def check(self, method: str, path: str, query: dict[str, str], now: datetime) -> None:
        """Accept a signed request.

        Raises
        ------
        AccessError
            The signature is not ours, or its time is over.
        """
        try:
            until = int(query["e"])
            given = query["s"]
        except (KeyError, ValueError):
            raise AccessError("the URL is not signed", hint="ask for a new plan") from None
        # Whoever may GET may ask for the head of the same thing.
        expected = self._signature("GET" if method == "HEAD" else method, path, until)
        if not hmac.compare_digest(given.encode(), expected.encode()):
            raise AccessError("the URL's signature is wrong", hint="ask for a new plan")
        if now.timestamp() > until:
            raise AccessError("the URL has expired", hint="ask for a new plan")

    def _signature(self, method: str, path: str, until: int) -> str:
        text = f"{method}\n{path}\n{until}".encode()
        return hmac.new(self._secret, text, hashlib.sha256).hexdigest()[:40]


def descriptor_query(descriptor: Descriptor) -> str:
    """Return ``d=…`` for a URL, or nothing where the descriptor is too long for one."""
    packed = base64.urlsafe_b64encode(zlib.compress(descriptor.canonical_bytes, 6)).decode()
    return f"d={packed.rstrip('=')}" if len(packed) <= DESCRIPTOR_IN_URL_MAX else ""


def descriptor_from_query(packed: str) -> Descriptor:
    """Read what `descriptor_query` wrote.

    Raises
    ------
    RequestError
        It cannot be unpacked, or is larger than any descriptor should be.
    """
    try:
        unpacker = zlib.decompressobj()
        data = base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4))
        text = unpacker.decompress(data, _DESCRIPTOR_BYTES_MAX)
        if unpacker.unconsumed_tail:
            raise RequestError("the descriptor in the URL is too large")
        return Descriptor.from_wire(json.loads(text))
    except (ValueError, zlib.error) as error:
        raise RequestError(f"the descriptor in the URL is damaged: {error}") from error
