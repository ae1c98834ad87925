"""Names of things, as types, so that a checker tells a PFN from an LFN."""

from __future__ import annotations

import re
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

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")


def without_secrets(pfn: str) -> str:
    """Return a physical name fit for eyes: without user, password, query and fragment.

    Passwords and presigned queries are for whoever opens the file; receipts, messages
    and listings are handed around. A path of this machine stays as it is.
    """
    if "://" not in pfn:
        return pfn
    return "::".join(_bare_link(link) for link in pfn.split("::"))


def _bare_link(link: str) -> str:
    scheme, separator, rest = link.partition("://")
    host, slash, path = rest.partition("?")[0].partition("#")[0].partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"


def text_without_secrets(text: str) -> str:
    """Return a message of somebody else's with the secrets of its URLs left out."""
    return _URL.sub(lambda url: without_secrets(url[0]), text)
