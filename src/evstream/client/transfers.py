"""Products on their way here: endpoint after endpoint, going on where a connection broke."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from evstream.client.connection import Connection
from evstream.client.edges import Edges
from evstream.domain.errors import (
    DescriptorUnknownError,
    EvstreamError,
    TooLargeError,
    TransientError,
    WrongBytesError,
)
from evstream.domain.names import without_secrets
from evstream.wire.edge_messages import Complaint
from evstream.wire.messages import DeliveryPlan, NewProduct

Fits = Callable[[Path], bool]

PIECE_BYTES = 1 << 20
TRANSFERS_MAX = 8
"""How often a body is begun, or gone on with, before its break is told."""


class Transfers:
    """Fetches products, each from whoever of its plan can give it.

    Parameters
    ----------
    connection : Connection
        The service's, which closes it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._edges = Edges(connection)

    async def fetch(
        self,
        plan: DeliveryPlan,
        path: Path,
        bytes_max: int | None = None,
        fits: Fits | None = None,
        rounds: int = TRANSFERS_MAX,
    ) -> Counter[str]:
        """Fetch a product into a file; resumes where a connection broke.

        Parameters
        ----------
        fits : callable, optional
            Says whether a file is what the plan means, as far as that shows.
        rounds : int
            How often each endpoint is asked, at most.

        Returns
        -------
        Counter
            Bytes received, repeats included, by who sent them: ``edge`` or ``head``.

        Raises
        ------
        EvstreamError
            No endpoint of the plan could give it.
        TooLargeError
            It has more bytes than may be; none of them was received.
        """
        download = _Download(path, bytes_max, fits)
        for failures in range(rounds):
            passing, definite = await self._round(download, plan)
            if passing is None and definite is None:
                return download.received
            # While one endpoint may come back, nothing is lost yet.
            error = passing or definite
            if passing is None or failures == rounds - 1:
                break
            await self._connection.wait_before_retry(failures, passing)
        assert error is not None
        raise error

    async def _round(
        self, download: _Download, plan: DeliveryPlan
    ) -> tuple[EvstreamError | None, EvstreamError | None]:
        """Go on with a transfer at each endpoint, until one has given all of it.

        Returns
        -------
        tuple
            The last error that may pass, and the last that will not; neither once all is there.
        """
        passing: EvstreamError | None = None
        definite: EvstreamError | None = None
        for url in plan.urls:
            try:
                await self._go_on(download, url, plan)
                download.check(plan)
            except WrongBytesError as failed:
                if failed.fields["mixed"]:
                    # Two edges disagree, and which of them is wrong does not show here.
                    passing = failed
                elif await self._are_right(failed):
                    return None, None
                else:
                    definite = failed
            except TooLargeError:
                raise
            except (DescriptorUnknownError, TransientError) as failed:
                passing = failed
            except EvstreamError as failed:
                # What one edge may not read, or finds damaged, another may have.
                definite = failed
            else:
                return None, None
        if not plan.urls:
            passing = TransientError("the plan names no endpoint", key=plan.key)
        return passing, definite

    async def _are_right(self, wrong: WrongBytesError) -> bool:
        """Tell the head of bytes that do not match; say whether it finds them right after all.

        They are, where it was told wrongly of them before: it makes them itself to see that.
        What names another product, or is not whole, is never.
        """
        url, etag, sha256 = (str(wrong.fields[name]) for name in ("url", "etag", "sha256"))
        with suppress(EvstreamError):
            is_other = bool(wrong.fields["is_other"])
            complaint = Complaint(url.partition("?")[0], etag, sha256, is_other)
            judged = await self._edges.complain(complaint)
            return judged.sha256 == sha256 and not is_other
        return False

    async def _go_on(self, download: _Download, url: str, plan: DeliveryPlan) -> None:
        try:
            await download.go_on(self._connection, url)
        except DescriptorUnknownError:
            message = NewProduct(plan.descriptor)
            await self._connection.call("POST", "/v1/products", DeliveryPlan, message)
            await download.go_on(self._connection, url)


class Check:
    """Size and digest of bytes on their way."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin again."""
        self.size = 0
        self._sha256 = hashlib.sha256()

    def add(self, piece: bytes) -> None:
        """Take what comes next."""
        self.size += len(piece)
        self._sha256.update(piece)

    @property
    def sha256(self) -> str:
        """The digest, in hexadecimal digits."""
        return self._sha256.hexdigest()


class _Download:
    """A file that grows over several connections, as long as the ETag stays."""

    def __init__(self, path: Path, bytes_max: int | None, fits: Fits | None) -> None:
        self._path = path
        self._bytes_max = bytes_max
        self._fits = fits
        self._etag = ""
        self._promised = ""
        self._check = Check()
        self._senders: set[str] = set()
        self._by_service = False
        self._from = ""
        self.received: Counter[str] = Counter()
        path.write_bytes(b"")

    async def go_on(self, connection: Connection, url: str) -> None:
        headers = {}
        if self._check.size and self._etag:
            headers = {"Range": f"bytes={self._check.size}-", "If-Range": self._etag}
        async with connection.stream(url, headers) as response:
            size = int(response.headers.get("Content-Length", 0))
            if self._bytes_max is not None and size > self._bytes_max:
                raise TooLargeError(f"the product has {size} bytes", bytes_max=self._bytes_max)
            if response.status_code != 206:
                self._check.restart()
                self._senders.clear()
                self._promised = ""
            # Who was asked, or whom that one has sent us to.
            self._senders.add(response.url.netloc.decode())
            self._from = str(response.url)
            self._by_service = connection.is_of_service(response)
            self._etag = response.headers.get("ETag", "")
            self._promised = sha256_promised(response.headers) or self._promised
            with self._path.open("r+b") as file:
                file.seek(self._check.size)
                file.truncate()
                async for piece in response.aiter_bytes(PIECE_BYTES):
                    file.write(piece)
                    self._check.add(piece)
                    self.received["head" if self._by_service else "edge"] += len(piece)

    def check(self, plan: DeliveryPlan) -> None:
        """Compare what came with the digests that the sender and the plan promised, if they did.

        Whoever names no encoder promises what the plan says. What the service itself sends is
        newer than the plan, which tells what some edge has. Of what nobody else knows, at
        least what shows is looked at.

        Raises
        ------
        WrongBytesError
            It is not right; it is begun anew.
        """
        etag = self._etag.removeprefix("W/") or plan.etag
        mixed = len(self._senders) > 1
        newer = self._by_service and not mixed
        planned = plan.sha256 if etag == plan.etag and not newer else ""
        if not {self._promised, planned, self._check.sha256} <= {"", self._check.sha256}:
            raise self._wrong("sent other bytes than were promised", etag, mixed)
        if self._fits is not None and not self._fits(self._path):
            raise self._wrong("sent another product, or a part of it", etag, mixed, is_other=True)

    def _wrong(
        self, what: str, etag: str, mixed: bool, *, is_other: bool = False
    ) -> WrongBytesError:
        wrong = WrongBytesError(
            f"{without_secrets(self._from)} {what}",
            url=self._from,
            etag=etag,
            sha256=self._check.sha256,
            mixed=mixed,
            is_other=is_other,
        )
        self._check.restart()
        self._etag = self._promised = ""
        return wrong


def sha256_promised(headers: Mapping[str, str]) -> str:
    """Return the digest of ``Repr-Digest`` in hexadecimal digits (RFC 9530), or nothing."""
    found = re.search(r"sha-256=:([A-Za-z0-9+/]{43}=):", headers.get("Repr-Digest", ""))
    return base64.b64decode(found.group(1)).hex() if found else ""
