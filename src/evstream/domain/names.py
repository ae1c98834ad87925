"""Names of things, as types, so that a checker tells a PFN from an LFN."""

from __future__ import annotations

from typing import NewType

DatasetName = NewType("DatasetName", str)
"""A DID, ``scope:name``."""

Lfn = NewType("Lfn", str)
"""Logical file name: what bookkeeping uses; unique within a dataset."""

Pfn = NewType("Pfn", str)
"""Physical file name: path or URL of one replica. Disposable."""

Guid = NewType("Guid", str)
"""A file's UUID, 36 characters, lower case."""

TaskId = NewType("TaskId", int)
WorkerId = NewType("WorkerId", str)
LeaseId = NewType("LeaseId", str)
ProductKey = NewType("ProductKey", str)
"""Hex sha256 of a canonical descriptor, 64 characters."""
