"""The edges that clients are sent to, and the keys that each of them checks with."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from evstream.domain.dataset import SourceFile
from evstream.domain.descriptor import Descriptor
from evstream.domain.names import ProductKey
from evstream.domain.products import Edge
from evstream.head.brokering import Brokering, Known, about_bytes
from evstream.wire.signed_urls import DerivedKeys, UrlSigner


class Fleet:
    """Names edges for products, and signs what each of them checks.

    Parameters
    ----------
    secret : bytes
        The heads': each edge's keys derive from it.
    """

    def __init__(self, brokering: Brokering, secret: bytes) -> None:
        self._brokering = brokering
        self._secret = secret
        self._signers: dict[str, UrlSigner] = {}

    async def look(self) -> None:
        """Look which edges there are now, unless that was done a moment ago."""
        await self._brokering.look()

    @property
    def is_empty(self) -> bool:
        """Whether there is no edge."""
        return self._brokering.alone

    async def known(
        self, wanted: Sequence[Descriptor], file: SourceFile | None
    ) -> dict[ProductKey, Known]:
        """Return what is known of products that are cut from a file; nothing without edges."""
        if self._brokering.alone:
            return {}
        sizes = {one.key: about_bytes(one, file) for one in wanted}
        return await self._brokering.known(wanted, sizes)

    def edges(self, key: ProductKey, known: Known, site: str = "") -> list[Edge]:
        """Return where a client at a site asks for a product, best first."""
        choices = self._brokering.choose(key, known, site)
        return [self._brokering.edge(choice.edge) for choice in choices]

    def compares(self, key: str, every: int) -> bool:
        """Whether a product is one of those, one in so many, that two edges make; 0 for none.

        All heads choose the same. An edge cannot know which they are.
        """
        digest = blake2b(key.encode(), key=self._secret, person=b"cross-check").digest()
        return every > 0 and int.from_bytes(digest[:8], "big") % every == 0

    def keys(self, name: str) -> DerivedKeys:
        """Return an edge's keys."""
        return DerivedKeys(self._secret, name)

    def signer(self, name: str) -> UrlSigner:
        """Return what signs URLs that an edge accepts."""
        if name not in self._signers:
            self._signers[name] = UrlSigner(self.keys(name))
        return self._signers[name]
