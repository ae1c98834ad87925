"""Stream a large product that is never written, and tell how much memory that took.

    python -m bench.rootio_parts.memory BYTES SOURCE

The product joins the source with itself as often as it takes. Run it in a process of
its own: the peak is the process's, interpreter and libraries included.
"""

from __future__ import annotations

import json
import resource
import sys

from evstream.rootio import FileSource, inspect
from evstream.rootio.joining import CHUNK_BYTES, assemble


def main() -> None:
    """Print the product's size and the peak of resident memory, in bytes."""
    wanted, path = int(sys.argv[1]), sys.argv[2]
    with FileSource(path) as source:
        count = -(-wanted // source.size)
        # One index a file, as it would be of files that differ.
        indices = [inspect(source) for _ in range(count)]
        product, _ = assemble([source] * count, indices, b"")
        buffer = memoryview(bytearray(CHUNK_BYTES))
        for offset in range(0, product.size, CHUNK_BYTES):
            product.read_into(offset, buffer, [source] * count)
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"bytes": product.size, "peak": peak_kib * 1024}))


if __name__ == "__main__":
    main()
