"""Tokens: strings that say how to read an event.

POOL, ATLAS's persistency, reads an event by the token of its DataHeader (Athena's ``Token``)::

    [DB=GUID][CNT=container][CLID=class][TECH=technology][OID=link-entry]

The container, the GUID of the header's class and the technology are those of the file's own link
to the container, whose number is the object id's first half; numbers are hexadecimal. Of any
other file, tree and entry say how::

    [DB=GUID][TREE=tree][ENTRY=entry]

A file without a GUID is named: ``[LFN=name]`` stands in place of ``[DB=GUID]``.
"""

from __future__ import annotations

from evstream.wire.event_messages import FileOfEvents


def token(file: FileOfEvents, entry: int) -> str:
    """Return the token of an event of a file."""
    named = f"[DB={file.guid.upper()}]" if file.guid else f"[LFN={file.lfn}]"
    pool = file.pool
    if pool is None:
        return f"{named}[TREE={file.tree}][ENTRY={entry}]"
    # POOL takes an object id below 2**32 for an entry, whatever index the container has.
    return (
        f"{named}[CNT={pool.container}][CLID={pool.class_id}][TECH={pool.technology:08X}]"
        f"[OID={pool.link:016X}-{entry:016X}]"
    )
