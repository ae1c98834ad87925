"""What the routes call."""

from __future__ import annotations

from dataclasses import dataclass

from evstream.edge import Deliveries, Products
from evstream.eventindex import EventFinder
from evstream.head import (
    Archiving,
    Assigner,
    Claims,
    Datasets,
    DeliveryPlans,
    Edges,
    Finishing,
    ForeignRanges,
    Notes,
    Prepared,
    Reopening,
    Reports,
    Requests,
    Slices,
    Tasks,
)
from evstream.head.access import Access
from evstream.ports import Catalogue, Ids, Metrics, OutputStore
from evstream.web.readiness import Readiness


@dataclass(frozen=True, slots=True)
class Services:
    """The head's and the edge's services behind one API."""

    access: Access
    catalogue: Catalogue
    datasets: Datasets
    tasks: Tasks
    claims: Claims
    reports: Reports
    finishing: Finishing
    reopening: Reopening
    archiving: Archiving
    requests: Requests
    assigner: Assigner
    slices: Slices
    products: Products
    deliveries: Deliveries
    prepared: Prepared
    plans: DeliveryPlans
    foreign: ForeignRanges
    edges: Edges
    events: EventFinder
    notes: Notes
    store: OutputStore
    ids: Ids
    metrics: Metrics
    readiness: Readiness
    receipt_key: str
    output_bytes_max: int
    accel_location: str = ""
    site: str = ""
    redirects: bool = False
    """It makes no products itself, and sends whoever asks for one to an edge."""
