"""Products on their way here: endpoint after endpoint, going on where a connection broke."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import httpx2

from evstream.client.connection import Connection
from evstream.client.download import PART_BYTES, Download, Fits, Part
from evstream.client.edges import Edges
from evstream.client.watch import Line, Watch
from evstream.client.ways import BUSY_S, Way, Ways
from evstream.domain.errors import (
    DescriptorUnknownError,
    EvstreamError,
    TooLargeError,
    TransientError,
    WrongBytesError,
    first_error,
)
from evstream.wire.edge_messages import Complaint
from evstream.wire.messages import DeliveryPlan, NewProduct

TRANSFERS_MAX = 8
"""How often a body is begun, or gone on with, and nothing more of it comes, before that is told."""
PAUSE_S_LONGEST = 1.0
"""Between two rounds of all endpoints; a link that comes back is to be used at once."""
STREAMS_MAX = 48
"""Bodies at once; the connections that carry them are more."""
HELPERS_MAX = 16
"""Of these so many bring further parts of products that somebody brings already."""
HELPERS_EACH_MAX = 7


class Transfers:
    """Fetches products, each from whoever of its plan can give it.

    Parameters
    ----------
    connection : Connection
        The service's, which closes it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._clock = connection.clock
        self._edges = Edges(connection)
        self._ways = Ways()
        self._watch = Watch(connection.clock)
        self._streams = asyncio.Semaphore(STREAMS_MAX)
        self._helpers = HELPERS_MAX
        self._renewed = asyncio.Event()
        self._renewed_at = -math.inf
        self._last_size = 0

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
            How often each endpoint is asked while nothing more comes. Where nobody answers at
            all, it is not these endpoints that are away, and they are asked as often as may be.

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
        download = Download(path, bytes_max, fits)
        failures = 0
        failing_since = self._clock.monotonic()
        try:
            while True:
                best, began = download.best, self._clock.monotonic()
                passing, definite = await self._round(download, plan)
                if passing is None and definite is None:
                    self._last_size = download.size or 0
                    return download.received
                failures = 1 if download.best > best else failures + 1
                failing_since = began if failures == 1 else failing_since
                heard = self._connection.heard_at > failing_since or not _is_silence(passing)
                # While one endpoint may come back, nothing is lost yet.
                if passing is None or failures >= (rounds if heard else TRANSFERS_MAX):
                    error = passing or definite
                    assert error is not None
                    raise error
                await self._pause(failures - 1, passing, began)
        finally:
            download.close()

    async def _pause(self, failures: int, error: EvstreamError, began: float) -> None:
        """Wait before the next round; not, or no longer, where a link is whole again.

        Parameters
        ----------
        began : float
            When the last round did.
        """
        if self._clock.monotonic() - began > PAUSE_S_LONGEST / 2:
            # Waiting for an answer in vain was pause enough.
            failures = 0
        wait = partial(self._connection.wait_before_retry, failures, error, PAUSE_S_LONGEST)
        if "retry_after_s" in error.fields:
            await wait()
        elif self._renewed_at < began:
            await _first_of(wait(), self._renewed.wait())

    async def _round(
        self, download: Download, plan: DeliveryPlan
    ) -> tuple[EvstreamError | None, EvstreamError | None]:
        """Go on with a transfer at each endpoint, until one has given all of it.

        Returns
        -------
        tuple
            The last error that may pass, and the last that will not; neither once all is there.
        """
        passing: EvstreamError | None = None
        definite: EvstreamError | None = None
        now = self._clock.monotonic()
        for url in sorted(plan.urls, key=lambda one: self._ways.to(one).is_avoided(now)):
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
                # Who is refused for want of room asks nobody twice.
                download.may_hedge &= "retry_after_s" not in failed.fields
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

    async def _go_on(self, download: Download, url: str, plan: DeliveryPlan) -> None:
        try:
            await self._bring(download, url, plan)
        except DescriptorUnknownError:
            message = NewProduct(plan.descriptor)
            await self._connection.call("POST", "/v1/products", DeliveryPlan, message)
            await self._bring(download, url, plan)

    async def _bring(self, download: Download, url: str, plan: DeliveryPlan) -> None:
        """Bring all that is missing from one endpoint; a large product in several parts."""
        download.straight = ""
        download.sized.clear()
        expected = self._last_size if download.size is None else download.size
        split = expected > 2 * PART_BYTES
        if not split:
            await self._bring_parts(download, url, plan, split=False)
            return
        wanted = min(HELPERS_EACH_MAX, self._helpers, expected // PART_BYTES)
        self._helpers -= wanted

        async def help_on() -> None:
            await download.sized.wait()
            if download.sends_parts:
                await self._bring_parts(download, url, plan, split=True)

        async def lead() -> None:
            try:
                await self._bring_parts(download, url, plan, split=True)
            finally:
                download.sized.set()

        try:
            with first_error():
                async with asyncio.TaskGroup() as group:
                    group.create_task(lead())
                    for _ in range(wanted):
                        group.create_task(help_on())
        finally:
            self._helpers += wanted

    async def _bring_parts(
        self, download: Download, url: str, plan: DeliveryPlan, *, split: bool
    ) -> None:
        while (part := download.take(split=split)) is not None:
            try:
                await self._bring_part(download, part, download.straight or url, plan)
            finally:
                download.put_back(part)

    async def _bring_part(
        self, download: Download, part: Part, url: str, plan: DeliveryPlan
    ) -> None:
        """Bring a part; of an answer that is late a second one is asked for elsewhere.

        Whoever answers first brings it.
        """
        held = [plan.urls[place] for place in plan.held if place < len(plan.urls)]
        way = self._ways.to(url)
        delay_s = way.hedge_s()
        rivals = [one for one in held if self._ways.to(one) is not way]
        is_held = any(self._ways.to(one) is way for one in held)
        # Who may have to make it first is no straggler.
        if delay_s is None or not rivals or not (is_held and download.may_hedge):
            await self._stream(download, part, url, is_held=is_held)
            return
        race = _Race()
        tasks = [asyncio.ensure_future(self._stream(download, part, url, race=race))]
        try:
            await _first_of(self._clock.sleep(delay_s), race.decided.wait(), _ended(tasks[0]))
            if not race.decided.is_set() and not tasks[0].done():
                now = self._clock.monotonic()
                rival = next((one for one in rivals if self._ways.may_hedge(one, now)), None)
                if rival is not None:
                    tasks.append(
                        asyncio.ensure_future(self._stream(download, part, rival, race=race))
                    )
            while race.winner is None and not all(task.done() for task in tasks):
                ends = [_ended(task) for task in tasks if not task.done()]
                await _first_of(race.decided.wait(), *ends)
            # Without a winner the first says what is wrong.
            await (race.winner or tasks[0])
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _stream(
        self,
        download: Download,
        part: Part,
        url: str,
        *,
        is_held: bool = True,
        race: _Race | None = None,
    ) -> None:
        """Ask once, and take what comes."""
        way = self._ways.to(url)
        self._ways.begun()
        async with self._streams:
            begun = self._clock.monotonic()
            wait = way.head if is_held else way.made
            heard = False
            with self._noting(way), self._watch.over(way, wait.too_long_s) as line:
                try:
                    async with self._connection.stream(
                        url, download.headers(part), way.connect_s_max(begun), way.connected
                    ) as response:
                        heard = True
                        wait.took(self._clock.monotonic() - begun)
                        self._answered(way)
                        if race is None or race.won():
                            await self._take(download, part, response, way, line)
                finally:
                    if line.given_up and not heard:
                        wait.took(self._clock.monotonic() - begun)

    async def _take(
        self, download: Download, part: Part, response: httpx2.Response, way: Way, line: Line
    ) -> None:
        """Take the body of an answer."""
        by_service = self._connection.is_of_service(response)
        download.begin(part, response, by_service=by_service)
        sender = "head" if by_service else "edge"
        now = self._clock.monotonic
        line.last, line.limit_s = now(), way.silence.too_long_s
        longest_s = 0.0
        try:
            async for piece in response.aiter_bytes():
                longest_s = max(longest_s, now() - line.last)
                line.last = now()
                if not download.add(part, piece, sender):
                    return
        finally:
            way.silence.took(max(longest_s, now() - line.last))
        download.end(part)

    def _answered(self, way: Way) -> None:
        if way.broken_at is not None:
            self._watch.renew(way)
            self._renewed.set()
            self._renewed = asyncio.Event()
            self._renewed_at = self._clock.monotonic()

    @contextmanager
    def _noting(self, way: Way) -> Iterator[None]:
        """Note of a way what an error says of it."""
        try:
            yield
        except TransientError as error:
            now = self._clock.monotonic()
            if "retry_after_s" in error.fields:
                way.busy_until = now + max(BUSY_S, float(str(error.fields["retry_after_s"])))
            elif _is_silence(error) or isinstance(error.__cause__, httpx2.ConnectError):
                way.broke(now)
            raise


def _is_silence(error: EvstreamError | None) -> bool:
    """Whether nothing came, not even a refusal."""
    if error is None:
        return False
    return "silent_s" in error.fields or isinstance(error.__cause__, httpx2.ConnectTimeout)


class _Race:
    """Two who ask for the same: whoever has an answer first goes on."""

    def __init__(self) -> None:
        self.decided = asyncio.Event()
        self.winner: asyncio.Future[None] | None = None

    def won(self) -> bool:
        """Say whether this task was first."""
        if self.winner is None:
            self.winner = asyncio.current_task()
            self.decided.set()
            return True
        return False


async def _ended(task: asyncio.Future[None]) -> None:
    """Wait for the end of a task, and leave it to others what that was."""
    await asyncio.wait([task])


async def _first_of(*works: Awaitable[object]) -> None:
    """Wait for the first of several to end; the others are cancelled."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
