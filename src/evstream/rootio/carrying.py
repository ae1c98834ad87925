"""A prepared product on its way from one process of ours to another."""

from __future__ import annotations

import pickle
from collections.abc import Sequence

from evstream.rootio.product import Product, Segment
from evstream.rootio.spool import Spool


def carried(product: Product) -> tuple[bytes, list[Spool]]:
    """Return a product as bytes, without its spools, and these: they may be large.

    What reads them must trust who made them: it is pickled.
    """
    spools: dict[int, Spool] = {}
    numbers: dict[int, int] = {}
    rows = []
    for one in product.segments:
        number = None
        if one.spool is not None:
            number = numbers.setdefault(id(one.spool), len(numbers))
            spools[number] = one.spool
        places = one.source, one.offset, one.size
        baskets = one.heads, one.nbytes, one.directory, one.pid_shift
        rows.append((places, bytes(one.data), baskets, number))
    content = pickle.dumps((rows, product.source_sizes), pickle.HIGHEST_PROTOCOL)
    return content, list(spools.values())


def uncarried(content: bytes | memoryview, spools: Sequence[Spool]) -> Product:
    """Return the product that `carried` gave."""
    rows, source_sizes = pickle.loads(content)  # noqa: S301 - of a process of ours
    segments = []
    for (source, offset, size), data, (heads, nbytes, directory, pid_shift), number in rows:
        spool = None if number is None else spools[number]
        segments.append(
            Segment(source, offset, size, data, heads, nbytes, directory, pid_shift, spool)
        )
    return Product(segments, source_sizes)
