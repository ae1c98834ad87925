"""Loops that call the head, each named after its work; safe to run twice at once."""

from evstream.daemons.archive_tasks import archive_tasks
from evstream.daemons.expire_leases import expire_leases
from evstream.daemons.expire_products import expire_products
from evstream.daemons.finish_tasks import finish_tasks
from evstream.daemons.forget_lost_edges import forget_lost_edges
from evstream.daemons.forget_request_ids import forget_request_ids
from evstream.daemons.place_products import place_products
from evstream.daemons.sweep_outputs import sweep_outputs

__all__ = [
    "NAMES",
    "archive_tasks",
    "expire_leases",
    "expire_products",
    "finish_tasks",
    "forget_lost_edges",
    "forget_request_ids",
    "place_products",
    "sweep_outputs",
]

NAMES = tuple(name for name in __all__ if name != "NAMES")
"""What the loops are called in logs and metrics."""
