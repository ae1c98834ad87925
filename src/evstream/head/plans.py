"""Delivery plans: where the bytes of a unit of work are, and where its output goes."""

from __future__ import annotations

from datetime import datetime, timedelta

from evstream.domain.descriptor import Descriptor
from evstream.wire.messages import DeliveryPlan
from evstream.wire.signed_urls import UrlSigner, descriptor_query

URL_MARGIN = timedelta(hours=1)
"""URLs outlive the lease by this, since a lease may be renewed many times."""


class Planner:
    """Makes signed URLs for products and for the output store."""

    def __init__(self, signer: UrlSigner, url_life: timedelta = timedelta(days=1)) -> None:
        self._signer = signer
        self._url_life = url_life

    def deliver(self, descriptor: Descriptor, now: datetime) -> DeliveryPlan:
        """Return key, descriptor and endpoints of a product."""
        path = f"/v1/products/{descriptor.key}"
        url = self._signer.sign(
            "GET", path, now + self._url_life + URL_MARGIN, descriptor_query(descriptor)
        )
        return DeliveryPlan(key=descriptor.key, descriptor=descriptor.to_wire(), urls=[url])

    def fetch_output(self, name: str, now: datetime) -> str:
        """Return a URL to read an object of the output store."""
        return self._signer.sign("GET", f"/v1/outputs/{name}", now + self._url_life + URL_MARGIN)

    def fetch_sandbox(self, sha256: str, now: datetime) -> str:
        """Return a URL to read a payload's sandbox; empty if it has none."""
        if not sha256:
            return ""
        path = f"/v1/sandboxes/{sha256}"
        return self._signer.sign("GET", path, now + self._url_life + URL_MARGIN)

    def store_output(self, name: str, now: datetime) -> str:
        """Return a URL to write an object of the output store."""
        return self._signer.sign("PUT", f"/v1/outputs/{name}", now + self._url_life + URL_MARGIN)
