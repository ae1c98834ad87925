"""The short way to a small product that is at hand, for a URL that has come the long way before.

What a signed URL means never changes: it is let in, unpacked and looked at once. When it comes
again, what may have changed is asked: whether its key is still good, its time not over, the edge
allowed to serve, and the product at hand. Everything unusual goes the long way.

The server asks here before it begins a task for a request (`FileSendingProtocol`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import Scope

from evstream.domain.descriptor import Descriptor
from evstream.domain.errors import EvstreamError
from evstream.edge import Deliveries
from evstream.edge.products import Identity
from evstream.ports import Clock, KeptProduct
from evstream.web.doors import signed_of
from evstream.web.representations import SENDFILE_BYTES_MIN, headers_of_whole
from evstream.wire.signed_urls import Signed, UrlSigner

URLS_MAX = 4096
URL_BYTES_MAX = 12 << 10
UNUSUAL = frozenset(
    {
        b"range",
        b"if-range",
        b"if-match",
        b"if-none-match",
        b"want-digest",
        b"x-sendfile-type",
        b"transfer-encoding",
        b"content-length",
        b"expect",
        b"upgrade",
    }
)
"""Headers that the long way looks at."""


@dataclass(slots=True)
class _Known:
    signed: Signed
    descriptor: Descriptor
    identity: Identity
    site: str
    kept: KeptProduct | None = None
    headers: bytes = b""


class KnownUrls:
    """Signed URLs of products that were let in before.

    Parameters
    ----------
    allow : callable
        Raises where this edge should serve nobody now.
    """

    def __init__(
        self, deliveries: Deliveries, signer: UrlSigner, clock: Clock, allow: Callable[[], None]
    ) -> None:
        self._deliveries = deliveries
        self._signer = signer
        self._clock = clock
        self._allow = allow
        self._known: OrderedDict[tuple[str, bytes], _Known] = OrderedDict()

    def remember(
        self, scope: Scope, descriptor: Descriptor, identity: Identity, site: str = ""
    ) -> None:
        """Note what a request was for, and of whom; one that was let in by its signature."""
        signed = signed_of(scope)
        place = scope["path"], scope["query_string"]
        if signed is None or sum(map(len, place)) > URL_BYTES_MAX or place in self._known:
            return
        self._known[place] = _Known(signed, descriptor, identity, site)
        if len(self._known) > URLS_MAX:
            self._known.popitem(last=False)

    def answer(self, scope: Scope) -> tuple[bytes, bytes] | None:
        """Return the header lines and the content of a 200; None: go the long way."""
        if scope["method"] != "GET":
            return None
        place = scope["path"], scope["query_string"]
        known = self._known.get(place)
        if known is None or any(name in UNUSUAL for name, _ in scope["headers"]):
            return None
        if not self._signer.still(known.signed, self._clock.now()):
            del self._known[place]
            return None
        try:
            self._allow()
        except EvstreamError:
            # The long way says it as it should be said.
            return None
        found = self._deliveries.whole(
            known.descriptor, known.identity, SENDFILE_BYTES_MIN, known.site
        )
        if found is None:
            return None
        self._known.move_to_end(place)
        kept, content = found
        if kept is not known.kept:
            known.kept = kept
            known.headers = b"".join(
                b"%b: %b\r\n" % pair for pair in headers_of_whole(kept, known.identity.etag)
            )
        return known.headers, content
