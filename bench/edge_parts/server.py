"""An edge of one file in a process of its own, with its doors: who asks needs a signed URL.

``python -m bench.edge_parts.server SOURCE CACHE PORT ACCEL [CERTIFICATE KEY]``

Beside the edge's API stand ``/url/START-STOP``, the signed path of a cut of those entries, and
``/counts``, bytes read of the source and products kept.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.responses import Response

from bench.edge_parts.whole import listening, signer_of, whole_edge
from evstream.adapters.source.fsspec import FsspecOpener
from evstream.assembly.tls import ServerTls
from evstream.domain.descriptor import slice_of
from evstream.ports import ByteSource
from evstream.settings import Settings

QUOTA_BYTES = 1 << 40


class CountedSource:
    """A source that counts the bytes that are read of it."""

    def __init__(self, inner: ByteSource, counts: list[int]) -> None:
        self._inner = inner
        self._counts = counts

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self._inner.size

    def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes | memoryview]:
        """Read, and count."""
        self._counts.append(sum(size for _, size in ranges))
        return self._inner.read_ranges(ranges)


class CountingOpener(FsspecOpener):
    """Opens sources that count."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: list[int] = []

    @contextmanager
    def open(self, pfn: str) -> Iterator[ByteSource]:
        """Open a file for reading."""
        with super().open(pfn) as inner:
            yield CountedSource(inner, self.counts)


async def serve(source: Path, cache_dir: Path, port: int, accel: str, tls: list[str]) -> None:
    """Serve until the process is ended."""
    opener = CountingOpener()
    with tempfile.TemporaryDirectory(prefix="evedge-") as name:
        settings = Settings(
            data_dir=name,
            edge_name="bench",
            cache=str(cache_dir),
            cache_bytes_max=QUOTA_BYTES,
            accel_location=accel,
            # All who ask for one cold product wait for it.
            on_demand_depth=1000,
        )
        async with whole_edge(Path(name), source, settings, opener) as whole:
            edge, file = whole.edge, whole.file
            (tree,) = file.trees
            signed = signer_of(edge, file)

            def url(span: str) -> str:
                start, stop = map(int, span.split("-"))
                descriptor = slice_of(file.fingerprint, tree, (start, stop), None)
                return signed(descriptor)

            async def app(scope: Any, receive: Any, send: Any) -> None:
                path: str = scope["path"]
                if path == "/counts":
                    answer = Response(f"{sum(opener.counts)} {edge.cache.state.products}")
                elif path.startswith("/url/"):
                    answer = Response(url(path.removeprefix("/url/")))
                else:
                    await edge.app(scope, receive, send)
                    return
                await answer(scope, receive, send)

            secured = ServerTls(Path(tls[0]), Path(tls[1])) if tls else None
            async with listening(app, port, secured, edge.app) as server:
                await asyncio.Event().wait() if server.started else None


if __name__ == "__main__":
    asyncio.run(
        serve(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5:])
    )
