"""Who says that a node is to be left: a site, a cloud, a batch system."""

from evstream.adapters.notices.batch_system import BatchSystem
from evstream.adapters.notices.clouds import Aws, Azure, Gce
from evstream.adapters.notices.configured import configured_notices
from evstream.adapters.notices.site import CommandEnds, FileAppears

__all__ = [
    "Aws",
    "Azure",
    "BatchSystem",
    "CommandEnds",
    "FileAppears",
    "Gce",
    "configured_notices",
]
