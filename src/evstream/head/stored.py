"""Whether outputs are in the store as they were reported, by what the store tells of them."""

from __future__ import annotations

import hashlib

from evstream.domain.outputs import OutputRecord
from evstream.ports import OutputStore, Stored


async def is_as_recorded(store: OutputStore, record: OutputRecord, md5: str = "") -> bool:
    """Compare an output with its record; what the store cannot tell is read.

    Parameters
    ----------
    md5 : str
        As whoever stored it says: all that some stores know.

    Raises
    ------
    NotFoundError
        It is not there.
    """
    found = await store.stat(record.name)
    told = Stored(record.name, record.size, record.sha256, record.adler32, md5)
    same = found.agrees(told)
    if same is not None:
        return same
    digest = hashlib.sha256()
    async for piece in store.read(record.name):
        digest.update(piece)
    return digest.hexdigest() == record.sha256
