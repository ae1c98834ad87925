"""What we ask of the world: protocols that `evstream.adapters` answers."""

from evstream.ports.access_keys import AccessKeys, TokenIssuers
from evstream.ports.archive import Archive, BookRecord
from evstream.ports.catalogue import ActiveTasks, Catalogue
from evstream.ports.clock import Clock
from evstream.ports.cutting import Cutter, Made
from evstream.ports.engine import Engine, PilotOrder, PilotStage, PilotState
from evstream.ports.format import Cut, FileIndex, Format, Formats
from evstream.ports.ids import Ids
from evstream.ports.ledger import Ledger
from evstream.ports.links import Links
from evstream.ports.metrics import Load, Loaded, Measure, Measured, Meter, Metrics
from evstream.ports.notice import Notice, Notices
from evstream.ports.offload import Offload
from evstream.ports.payload import (
    PayloadCall,
    PayloadRange,
    PayloadResult,
    PayloadRunner,
    SecondaryFiles,
)
from evstream.ports.product_store import KeptProduct, ProductStore
from evstream.ports.products import ProductCatalogue
from evstream.ports.source import ByteSource, SourceOpener
from evstream.ports.storage import OutputStore, OutputWriter, Stored
from evstream.ports.turns import TaskLocks
from evstream.ports.whiteboard import Whiteboard

__all__ = [
    "AccessKeys",
    "ActiveTasks",
    "Archive",
    "BookRecord",
    "ByteSource",
    "Catalogue",
    "Clock",
    "Cut",
    "Cutter",
    "Engine",
    "FileIndex",
    "Format",
    "Formats",
    "Ids",
    "KeptProduct",
    "Ledger",
    "Links",
    "Load",
    "Loaded",
    "Made",
    "Measure",
    "Measured",
    "Meter",
    "Metrics",
    "Notice",
    "Notices",
    "Offload",
    "OutputStore",
    "OutputWriter",
    "PayloadCall",
    "PayloadRange",
    "PayloadResult",
    "PayloadRunner",
    "PilotOrder",
    "PilotStage",
    "PilotState",
    "ProductCatalogue",
    "ProductStore",
    "SecondaryFiles",
    "SourceOpener",
    "Stored",
    "TaskLocks",
    "TokenIssuers",
    "Whiteboard",
]
