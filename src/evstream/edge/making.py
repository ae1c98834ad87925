"""One product on its way from its source: made once, read along by whoever asks."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import zlib
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

from evstream.domain.errors import EvstreamError, TransientError
from evstream.edge.products import PIECE_BYTES, Identity, Product, Products, Reader
from evstream.edge.spool import discard, open_spool, write_at
from evstream.ports import Offload

_LOG = logging.getLogger(__name__)

FIRST_BYTES = 256 << 10
"""The first piece is small: somebody waits for it."""
AHEAD_BYTES_MAX = 32 << 20
"""Whoever asks for bytes further ahead than this gets them from the source."""
WARM_BYTES_MAX = 256 << 20
"""So much of what was written last is taken to be in memory, and read without a thread."""
LINGER_S = 10.0
"""A making that nobody reads any more goes on for so long: broken connections come again."""


class Making:
    """A product that is written to a file from its first byte to its last.

    Readers follow as far as it is written. It has a file as long as somebody reads it.

    A making that fails breaks the connections of those who have begun to receive; all
    others are told the error. One that finds no room for its file gives up, and its
    readers go on from the source. One that nobody has read for `LINGER_S` is stopped
    unless half of it is written: then it costs less to end it than to begin it again.

    Attributes
    ----------
    written : int
        Bytes that can be read.
    sha256, adler32 : str
        Hex digests, once it is whole.
    """

    def __init__(
        self, product: Product, products: Products, offload: Offload, spool_dir: Path
    ) -> None:
        self.product = product
        self.written = 0
        self.sha256 = self.adler32 = ""
        self.seconds = 0.0
        self._products = products
        self._offload = offload
        self._spool_dir = spool_dir
        self._spool: Path | None = None
        self._fd = -1
        self._users = 0
        # Whoever it is for comes a moment after it has begun.
        self._idle_since = asyncio.get_running_loop().time()
        self._error: EvstreamError | None = None
        self._given_up = False
        self._grown: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def identity(self) -> Identity:
        """What the product is called."""
        return self.product.identity

    @property
    def fd(self) -> int | None:
        """The file, once the product is whole; valid while the caller holds the making."""
        return self._fd if self._whole and self._fd >= 0 else None

    @property
    def error(self) -> EvstreamError | None:
        """Why it failed, if it did."""
        return self._error

    @property
    def _whole(self) -> bool:
        return bool(self.sha256)

    @property
    def _is_gone(self) -> bool:
        """Whether it was ended, and its file closed, before somebody came to hold it."""
        return self._whole and self._fd < 0

    def hold(self) -> None:
        """Say that somebody reads; `release` ends it."""
        self._users += 1

    def release(self) -> None:
        """Say that somebody has ceased to read."""
        self._users -= 1
        self._idle_since = asyncio.get_running_loop().time()
        self._close_unused()

    def _close_unused(self) -> None:
        if self._users == 0 and self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    async def make(self, *, keeps: bool = True) -> Path | None:
        """Make it; return the file, or None if there was no room for one.

        The caller holds the making meanwhile, beside whoever reads it.

        Parameters
        ----------
        keeps : bool
            Whether there is room; else readers are sent to the source at once.

        Raises
        ------
        EvstreamError
            The source cannot be read, or nobody wants the product any more.
        """
        if not keeps:
            self._given_up = True
            self._tell()
            return None
        reader = self._products.reader(self.product)
        began = asyncio.get_running_loop().time()
        try:
            await self._offload(self._open)
            await self._write_all(reader)
            self.seconds = asyncio.get_running_loop().time() - began
            spool, self._spool = self._spool, None
            return spool
        except OSError as error:
            _LOG.warning("product %s has no room to be made in: %s", self.identity.name, error)
            self._given_up = True
            return None
        except EvstreamError as error:
            self._error = error
            raise
        except BaseException:
            self._error = TransientError("the edge is stopping", hint="ask another")
            raise
        finally:
            reader.close()
            self._discard()
            self._tell()

    async def _write_all(self, reader: Reader) -> None:
        """Write the product from its first byte to its last, and its digests."""
        loop = asyncio.get_running_loop()
        sha256, adler32 = hashlib.sha256(), 1

        def piece() -> int:
            nonlocal adler32
            size = min(PIECE_BYTES if self.written else FIRST_BYTES, left)
            data = reader.read(self.written, size)
            write_at(self._fd, data, self.written)
            sha256.update(data)
            adler32 = zlib.adler32(data, adler32)
            return len(data)

        while left := self.product.size - self.written:
            self._refuse_unwanted(loop.time())
            got = await self._products.reading(reader.origin, piece)
            if not got:
                raise TransientError(f"product {self.identity.name} ended before its size")
            self.written += got
            self._tell()
        self.sha256, self.adler32 = sha256.hexdigest(), f"{adler32:08x}"

    def _open(self) -> None:
        self._fd, self._spool = open_spool(self._spool_dir, self.identity.name)

    def _refuse_unwanted(self, now: float) -> None:
        if self._users > 1:
            self._idle_since = now
        elif self.written * 2 < self.product.size and self._idle_since < now - LINGER_S:
            raise TransientError(
                f"nobody waits for product {self.identity.name} any more", hint="ask again"
            )

    def _discard(self) -> None:
        if self._spool is not None:
            discard(self._spool)
            self._spool = None

    def _tell(self) -> None:
        grown, self._grown = self._grown, self._grown.get_loop().create_future()
        if not grown.done():
            grown.set_result(None)

    async def read(self, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield bytes ``[start, stop)`` as they come to be, in pieces of at most 1 MiB.

        Raises
        ------
        EvstreamError
            The making failed.
        """
        at = start
        while at < stop:
            if at < self.written and self._fd >= 0:
                size = min(PIECE_BYTES, stop - at, self.written - at)
                yield await self._pread(at, size)
                at += size
            elif self._given_up or self._is_gone or at - self.written > AHEAD_BYTES_MAX:
                size = min(PIECE_BYTES, stop - at)
                async for piece in self._products.read(self.product, at, at + size):
                    yield piece
                at += size
            elif self._error is not None:
                raise self._error
            else:
                await asyncio.shield(self._grown)

    async def _pread(self, offset: int, size: int) -> bytes:
        if self.written - offset <= WARM_BYTES_MAX:
            return os.pread(self._fd, size, offset)
        return await self._offload(partial(os.pread, self._fd, size, offset))
