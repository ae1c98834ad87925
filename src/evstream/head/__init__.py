"""Decides: registers datasets, accepts tasks, leases their ranges, ends them."""

from evstream.head.claims import Claims
from evstream.head.datasets import Datasets
from evstream.head.finishing import Finishing
from evstream.head.merging import Merging
from evstream.head.reopening import Reopening
from evstream.head.reports import Reports
from evstream.head.slices import Slices
from evstream.head.sweeping import Sweeping
from evstream.head.tasks import Tasks
from evstream.head.turns import Turns

__all__ = [
    "Claims",
    "Datasets",
    "Finishing",
    "Merging",
    "Reopening",
    "Reports",
    "Slices",
    "Sweeping",
    "Tasks",
    "Turns",
]
