"""Decides: registers datasets, accepts tasks, leases their ranges, ends them."""

from evstream.head.archiving import Archiving
from evstream.head.assigning import Assigner
from evstream.head.chains import Chains
from evstream.head.claims import Claims
from evstream.head.datasets import Datasets
from evstream.head.delivery_plans import DeliveryPlans
from evstream.head.edges import Edges
from evstream.head.finishing import Finishing
from evstream.head.foreign import ForeignRanges
from evstream.head.merging import Merging
from evstream.head.notes import Notes
from evstream.head.nudges import Nudges
from evstream.head.prepared import Prepared
from evstream.head.reopening import Reopening
from evstream.head.reports import Reports
from evstream.head.requests import Requests
from evstream.head.slices import Slices
from evstream.head.sweeping import Sweeping
from evstream.head.tasks import Tasks
from evstream.head.turns import Turns

__all__ = [
    "Archiving",
    "Assigner",
    "Chains",
    "Claims",
    "Datasets",
    "DeliveryPlans",
    "Edges",
    "Finishing",
    "ForeignRanges",
    "Merging",
    "Notes",
    "Nudges",
    "Prepared",
    "Reopening",
    "Reports",
    "Requests",
    "Slices",
    "Sweeping",
    "Tasks",
    "Turns",
]
