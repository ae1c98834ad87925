"""What heads derive from their secret for edges: each one's keys, and what two of them compare."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from hashlib import blake2b

from evstream.domain.products import Edge
from evstream.wire.signed_urls import DerivedKeys, UrlSigner


class EdgeKeys:
    """Signs URLs that an edge accepts, and no other.

    Parameters
    ----------
    secret : bytes
        The heads': each edge's keys derive from it.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._signers: dict[str, UrlSigner] = {}

    def of(self, name: str) -> DerivedKeys:
        """Return an edge's keys."""
        return DerivedKeys(self._secret, name)

    def url(
        self,
        edge: Edge,
        path: str,
        now: datetime,
        until: datetime,
        *,
        bound: Mapping[str, str] | None = None,
        extra: str = "",
    ) -> str:
        """Return a URL at an edge that it accepts until then; `UrlSigner.sign` says of what."""
        if edge.name not in self._signers:
            self._signers[edge.name] = UrlSigner(self.of(edge.name))
        signer = self._signers[edge.name]
        return edge.url.rstrip("/") + signer.sign("GET", path, now, until, bound, extra)

    def compares(self, key: str, every: int) -> bool:
        """Whether a product is one of those, one in so many, that two edges make; 0 for none.

        All heads choose the same. An edge cannot know which they are.
        """
        digest = blake2b(key.encode(), key=self._secret, person=b"cross-check").digest()
        return every > 0 and int.from_bytes(digest[:8], "big") % every == 0
