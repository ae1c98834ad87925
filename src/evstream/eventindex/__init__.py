"""The event index: from run, lumi block and event number to file and entry."""

from evstream.eventindex.answers import answer
from evstream.eventindex.building import Builder, open_builder
from evstream.eventindex.extraction import Readers, WantedFile
from evstream.eventindex.finding import FOLDER, EventFinder
from evstream.eventindex.index import EventIndex, EventKeys, Found
from evstream.eventindex.manifest import IndexedFile
from evstream.eventindex.rows import NO_LUMI, Rows
from evstream.eventindex.updating import Updated, update_index

__all__ = [
    "FOLDER",
    "NO_LUMI",
    "Builder",
    "EventFinder",
    "EventIndex",
    "EventKeys",
    "Found",
    "IndexedFile",
    "Readers",
    "Rows",
    "Updated",
    "WantedFile",
    "answer",
    "open_builder",
    "update_index",
]
