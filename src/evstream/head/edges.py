"""What edges are told: keys, states, sources, descriptors."""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime, timedelta

from evstream.domain.access import THE_OWNER, Caller
from evstream.domain.complaints import BELIEVED_AGAIN, Complaints
from evstream.domain.dataset import Fingerprint, SourceFile
from evstream.domain.descriptor import COPY_ENCODER, Descriptor, copy_of
from evstream.domain.edges import BEATS_MISSED_MAX, checked_url
from evstream.domain.errors import DescriptorUnknownError, NotFoundError
from evstream.domain.names import Pfn, ProductKey, text_without_secrets, without_secrets
from evstream.domain.payload import SHA256
from evstream.domain.products import Edge, Replica
from evstream.head.edge_keys import EdgeKeys
from evstream.head.judging import Judging
from evstream.head.placing import Placing
from evstream.head.plans import URL_MARGIN
from evstream.ports import Catalogue, ProductCatalogue
from evstream.wire import edge_messages as m
from evstream.wire.signed_urls import EPOCH, descriptor_query, epoch_of

_LOG = logging.getLogger(__name__)


class Edges:
    """Answers edges.

    Parameters
    ----------
    url_life : timedelta
        Of the URLs that heads sign: edges keep old keys for so long.
    placing : Placing
        Knows what each of them is to hold.
    judging : Judging
        Decides who is wrong where somebody got other bytes than are known.
    """

    def __init__(
        self,
        products: ProductCatalogue,
        catalogue: Catalogue,
        keys: EdgeKeys,
        url_life: timedelta,
        placing: Placing,
        judging: Judging,
    ) -> None:
        self._products = products
        self._catalogue = catalogue
        self._keys = keys
        self._url_life = url_life
        self._placing = placing
        self._judging = judging
        self._complaints = Complaints()

    async def beat(self, name: str, beat: m.EdgeBeat) -> m.BeatAnswer:
        """Enter that an edge is there, and tell it what it needs.

        Raises
        ------
        RequestError
            Its URL is none that clients may be sent to.
        """
        life = timedelta(seconds=BEATS_MISSED_MAX * beat.beat_s)
        edge = await self._products.beat(
            name, checked_url(beat.url), "edge", beat.capacity_bytes, life, beat.status
        )
        now = await self._products.now()
        keys = self._keys.of(name).around(now, self._url_life + URL_MARGIN)
        told = [m.UrlKey(epoch, key.hex()) for epoch, key in keys.items()]
        return m.BeatAnswer(edge, told, self._placing.orders(name, now))

    async def set_state(self, name: str, asked: m.EdgeStateRequest) -> Edge:
        """Decide what an edge may do.

        Raises
        ------
        NotFoundError
        """
        return await self._products.set_edge_state(name, asked.state, asked.reason)

    async def complain(self, complaint: m.Complaint, caller: Caller = THE_OWNER) -> m.Judged:
        """Compare what somebody got of an edge with what is known of the product.

        Those who may decide what edges do are believed each time, others as `Complaints` says.
        Whose word is taken for true has the product made here: an edge that sent the right
        bytes, though another's are known, stays.

        Raises
        ------
        TransientError
            Who is wrong cannot be seen now.
        """
        key, _, encoder_id = complaint.etag.strip('"').partition("-")
        if not re.fullmatch(SHA256, key):
            return m.Judged(False)
        found = next(
            (
                one
                for one in await self._products.products_of(ProductKey(key))
                if one.product.encoder_id == encoder_id
            ),
            None,
        )
        edge = await self._edge_at(complaint.url)
        if found is None:
            return m.Judged(False)
        known = found.product.sha256
        if edge is None or (known == complaint.sha256 and not complaint.is_other):
            return m.Judged(False, known)
        if edge.state == "quarantined":
            return m.Judged(True, known)
        what = f"it sent other bytes of product {key[:12]} than are known"
        if complaint.is_other:
            what = f"what it sent of product {key[:12]} is another product, or a part of it"
        reason = f"{what}: sha256 {complaint.sha256[:12]}, not {known[:12]}"
        if complaint.sha256 == known:
            reason = f"{what}: sha256 {known[:12]}, as it had told"
        if not await self._is_believed(caller, edge, reason):
            return m.Judged(False, known)
        right = await self._judging.complained(
            edge.name, found, complaint.sha256, f"{caller.name}: {reason}"
        )
        if right == complaint.sha256:
            self._complaints.forget(caller.name)
        after = await self._edge_at(complaint.url)
        return m.Judged(after is not None and after.state == "quarantined", right)

    async def _edge_at(self, url: str) -> Edge | None:
        """Return the edge that a URL leads to."""
        edges = await self._products.edges()
        return next((one for one in edges if one.kind == "edge" and _is_at(url, one)), None)

    async def _is_believed(self, caller: Caller, edge: Edge, reason: str) -> bool:
        if caller.may({"operator"}):
            return True
        if self._complaints.believe(caller.name, edge.name, await self._products.now()):
            return True
        _LOG.warning(
            "evstream: %s complains of a second edge within %s and is not believed: %s: %s",
            caller.name,
            BELIEVED_AGAIN,
            edge.name,
            reason,
        )
        return False

    async def bad_replicas(self, edge: str, found: m.BadReplicas) -> int:
        """Have replicas read no more, whose bytes were wrong where another's were right.

        What nobody has entered is left out, and so is a file's last replica.

        Returns
        -------
        int
            How many are marked as bad now.
        """
        changed = 0
        for one in found.replicas:
            try:
                file = await self._catalogue.file(one.fingerprint)
            except NotFoundError:
                continue
            if (place := (await self._copies(file)).get(one.pfn)) is not None:
                changed += await self._forget_copy(file, place, one.evidence)
                continue
            left = await self._replicas(file)
            if one.pfn not in left or len(left) == 1:
                continue
            known = await self._products.replicas([one.fingerprint])
            site = next((had.site for had in known if had.pfn == one.pfn), "")
            await self._products.add_replicas([Replica(one.fingerprint, one.pfn, site, "bad")])
            _LOG.warning(
                "evstream: edge %s found replica %s bad, and it is read no more: %s",
                edge,
                without_secrets(one.pfn),
                text_without_secrets(one.evidence),
            )
            changed += 1
        return changed

    async def _forget_copy(self, file: SourceFile, edge: Edge, evidence: str) -> int:
        """Send nobody to an edge's copy of a file any more."""
        name = (copy_of(file.fingerprint, file.format).key, COPY_ENCODER)
        _LOG.warning(
            "evstream: the copy of %s at edge %s is bad, and is read no more: %s",
            file.lfn,
            edge.name,
            text_without_secrets(evidence),
        )
        return await self._products.drop_products(edge.name, [name])

    async def source(self, fingerprint: Fingerprint, edge: str = "") -> m.SourceView:
        """Return a file and where it is.

        Copies at other edges of the asking one's site come first, then where it was registered,
        its other replicas, and copies at edges elsewhere.

        Raises
        ------
        NotFoundError
        """
        file = await self._catalogue.file(fingerprint)
        copies = await self._copies(file)
        asker = next((one for one in await self._products.edges() if one.name == edge), None)
        site = "" if asker is None else asker.status.site
        others = {url: at for url, at in copies.items() if at.name != edge}
        near = [url for url, at in others.items() if site and at.status.site == site]
        far = [url for url in others if url not in near]
        return m.SourceView(
            lfn=file.lfn,
            guid=file.guid,
            fingerprint=file.fingerprint,
            format=file.format,
            trees=file.trees,
            pfns=[*near, *await self._replicas(file), *far],
            checksums=file.checksums,
        )

    async def _replicas(self, file: SourceFile) -> list[Pfn]:
        """Return where a file is said to be, but for what is not available."""
        others = await self._products.replicas([file.fingerprint])
        bad = {one.pfn for one in others if one.state != "available"}
        pfns = [*file.pfns, *(one.pfn for one in others if one.state == "available")]
        return [pfn for pfn in dict.fromkeys(pfns) if pfn not in bad]

    async def _copies(self, file: SourceFile) -> dict[Pfn, Edge]:
        """Return the edges that have a file whole, by signed URLs of it."""
        descriptor = copy_of(file.fingerprint, file.format)
        found = await self._products.products_of(descriptor.key)
        if not found:
            return {}
        now = await self._products.now()
        # The same URL for a day: whoever has it open reads on.
        until = datetime.fromtimestamp((epoch_of(now) + 2) * EPOCH.total_seconds(), UTC)
        path, extra = f"/v1/products/{descriptor.key}", descriptor_query(descriptor)
        return {
            Pfn(self._keys.url(edge, path, now, until, extra=extra)): edge
            for one in found
            for edge in one.places
            if edge.kind == "edge"
            and edge.state in ("serving", "draining")
            and not edge.status.leaving
        }

    async def descriptor(self, key: ProductKey) -> Descriptor:
        """Return the descriptor of a product that some edge has.

        Raises
        ------
        DescriptorUnknownError
        """
        found = await self._products.products_of(key)
        if not found:
            raise DescriptorUnknownError(
                f"no descriptor is known for product {key}",
                hint="POST it to /v1/products and ask again",
                key=key,
            )
        return found[0].product.descriptor


def _is_at(url: str, edge: Edge) -> bool:
    own = edge.url.rstrip("/")
    return url == own or url.startswith(f"{own}/")
