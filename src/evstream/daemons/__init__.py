"""Loops that call the head, each named after its work; safe to run twice at once."""

from evstream.daemons.archive_tasks import archive_tasks
from evstream.daemons.expire_leases import expire_leases
from evstream.daemons.expire_products import expire_products
from evstream.daemons.finish_tasks import finish_tasks
from evstream.daemons.sweep_outputs import sweep_outputs

__all__ = ["archive_tasks", "expire_leases", "expire_products", "finish_tasks", "sweep_outputs"]
