"""The short way to a product that is at hand, for a URL that has come the long way before.

One that is small is sent; of any, a web server before us is told where its file is.

What a signed URL means never changes: it is let in, unpacked and looked at once. When it comes
again, what may have changed is asked: whether its key is still good, its time not over, the edge
allowed to serve, and the product at hand. Everything unusual goes the long way.

The server asks here before it begins a task for a request (`FileSendingProtocol`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from starlette.types import Scope

from evstream.domain.descriptor import Descriptor
from evstream.domain.errors import EvstreamError
from evstream.edge import Deliveries
from evstream.edge.products import Identity
from evstream.ports import Clock, KeptProduct
from evstream.web.doors import signed_of
from evstream.web.representations import (
    ACCEL_HEADER,
    SENDFILE_BYTES_MIN,
    headers_of_placed,
    headers_of_whole,
)
from evstream.wire.signed_urls import Signed, UrlSigner

URLS_MAX = 4096
URL_BYTES_MAX = 12 << 10
OF_BODIES = frozenset({b"transfer-encoding", b"content-length", b"expect", b"upgrade"})
UNUSUAL = OF_BODIES | {b"if-match", b"if-none-match", b"want-digest"}
"""Headers that the long way looks at."""
OF_PARTS = frozenset({b"range", b"if-range", b"x-sendfile-type"})
"""Headers that it looks at too, where no web server before us does."""


@dataclass(slots=True)
class _Known:
    signed: Signed
    descriptor: Descriptor
    identity: Identity
    site: str
    kept: KeptProduct | None = None
    headers: bytes = b""
    """Of the answer with that product; for a web server before us where ``by_place`` says so."""
    by_place: bool = False


class KnownUrls:
    """Signed URLs of products that were let in before.

    Parameters
    ----------
    allow : callable
        Raises where this edge should serve nobody now.
    accel : str
        As `evstream.web.representations.answer` takes it.
    """

    def __init__(
        self,
        deliveries: Deliveries,
        signer: UrlSigner,
        clock: Clock,
        allow: Callable[[], None],
        accel: str = "",
    ) -> None:
        self._deliveries = deliveries
        self._signer = signer
        self._clock = clock
        self._allow = allow
        self._accel = accel
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

    def answer(self, scope: Scope) -> tuple[int, bytes, bytes] | None:
        """Return status, header lines and content; None: go the long way."""
        if scope["method"] != "GET":
            return None
        place = scope["path"], scope["query_string"]
        known = self._known.get(place)
        if known is None:
            return None
        by_place = bool(self._accel) and ACCEL_HEADER in scope["headers"]
        names = {name for name, _ in scope["headers"]}
        if names & UNUSUAL or (not by_place and names & OF_PARTS):
            return None
        if not self._signer.still(known.signed, self._clock.now()):
            del self._known[place]
            return None
        try:
            self._allow()
        except EvstreamError:
            # The long way says it as it should be said.
            return None
        found = self._placed(known) if by_place else self._whole(known)
        if found is not None:
            self._known.move_to_end(place)
        return found

    def _whole(self, known: _Known) -> tuple[int, bytes, bytes] | None:
        found = self._deliveries.whole(
            known.descriptor, known.identity, SENDFILE_BYTES_MIN, known.site
        )
        if found is None:
            return None
        kept, content = found
        if kept is not known.kept or known.by_place:
            known.kept, known.by_place = kept, False
            known.headers = lines_of(headers_of_whole(kept, known.identity.etag))
        return 200, known.headers, content

    def _placed(self, known: _Known) -> tuple[int, bytes, bytes] | None:
        found = self._deliveries.placed(known.descriptor, known.identity, known.site)
        if found is None:
            return None
        kept, place = found
        if kept is not known.kept or not known.by_place:
            known.kept, known.by_place = kept, True
            etag = known.identity.etag
            known.headers = lines_of(headers_of_placed(kept, etag, self._accel, place))
        return 200, known.headers, b""


def lines_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return headers as HTTP/1.1 has them."""
    return b"".join(b"%b: %b\r\n" % pair for pair in headers)
