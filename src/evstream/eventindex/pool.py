"""What POOL, ATLAS's persistency, writes beside events: a file's GUID, and links to containers.

A POOL file has trees ``##Params`` and ``##Links`` of strings (Athena's APR StorageSvc,
``DbDatabaseObj``). Among the first is ``[NAME=FID][VALUE=GUID]``; each of the second is the token
of a container, whose object id begins with the link's number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from evstream.domain.errors import DataError
from evstream.eventindex.manifest import PoolFile

PARAMS, LINKS = "##Params", "##Links"
DATA_HEADERS = ("POOLContainer(DataHeader)", "POOLContainer_DataHeader")
"""Containers with one DataHeader for each event: today's name and the one before it."""
_NO_GUID = "00000000-0000-0000-0000-000000000000"
_GUID = r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
_FID = re.compile(rf"\[NAME=FID\]\[VALUE=({_GUID})\]")
_LINK = re.compile(
    rf"\[DB=({_GUID})\]\[CNT=([^\]]*)\]\[CLID=({_GUID})\]"
    r"\[TECH=([0-9A-Fa-f]{1,8})\]\[OID=([0-9A-Fa-f]{1,16})-[0-9A-Fa-f]{1,16}\]"
)


def read_strings(path: Path, tree: str) -> list[str]:
    """Return the strings of a tree of POOL's.

    Raises
    ------
    DataError
        They cannot be read.
    """
    import uproot  # Half a second of imports that most calls never need.

    try:
        with uproot.open(path) as file:
            found = file[tree]
            return [str(text) for text in found[found.keys()[0]].array(library="np")]
    except Exception as error:  # an odd file makes its reader raise anything
        line = str(error).strip().split("\n", 1)[0][:200]
        raise DataError(
            f"uproot cannot read {tree}: {line}",
            hint="compare the file's size and checksum with the original's",
        ) from error


def pool_guid(params: Sequence[str]) -> str:
    """Return a file's GUID; empty if POOL gave it none. A merged file's own comes last."""
    found = [match[1] for text in params if (match := _FID.search(text))]
    return found[-1].upper() if found else ""


def pool_file(guid: str, links: Sequence[str]) -> PoolFile | None:
    """Return where a file keeps its events' DataHeaders; None if it does not say."""
    tokens = [match for text in links if (match := _LINK.search(text))]
    for name in DATA_HEADERS:
        for token in tokens:
            # Links within the file name no file.
            if token[2] == name and token[1].upper() in (_NO_GUID, guid):
                return PoolFile(name, token[3].upper(), int(token[4], 16), int(token[5], 16))
    return None


def has_pool_trees(trees: Mapping[str, object]) -> bool:
    """Whether a file was written by POOL, by the names of its trees."""
    return PARAMS in trees
