"""An edge and its head: it beats, and is told what it may do and which keys are good."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from evstream.client.edges import Edges
from evstream.domain.edges import EdgeState, EdgeStatus
from evstream.domain.errors import EvstreamError, TransientError
from evstream.edge.troubles import Troubles
from evstream.ports import Clock
from evstream.wire.edge_messages import BeatAnswer, EdgeBeat, PlacementOrder
from evstream.wire.signed_urls import GivenKeys

_LOG = logging.getLogger(__name__)

KEYS_FILE = "url-keys.json"
STATE_FILE = "edge-state"
_HOW: dict[EdgeState, str] = {
    "serving": "serving",
    "draining": "draining",
    "maintenance": "in maintenance",
    "quarantined": "quarantined",
}


@dataclass(frozen=True, slots=True)
class Card:
    """What an edge says of itself that does not change.

    Attributes
    ----------
    url : str
        Where clients reach it.
    beat_s : float
        How often it beats.
    capacity_bytes : int
        Room for products.
    """

    name: str
    url: str
    beat_s: float
    capacity_bytes: int


class Joining:
    """Tells the head that an edge is there, for as long as it runs.

    Parameters
    ----------
    status : callable
        What the edge says of itself.
    on_quarantine : callable
        Throws away what the edge holds.
    on_orders : callable
        Takes what the head wants held and dropped.
    on_forgotten : callable
        Hears that the head knows of no product here any more, where it knew of some.
    folder : Path
        Where keys are kept, for their owner's eyes, and what the head has decided: an edge
        that starts while the head is away still knows who may have what, and whether it
        may serve.
    """

    def __init__(
        self,
        head: Edges,
        clock: Clock,
        status: Callable[[], EdgeStatus],
        *,
        card: Card,
        folder: Path,
        on_quarantine: Callable[[], Awaitable[None]],
        on_orders: Callable[[Sequence[PlacementOrder]], None],
        on_forgotten: Callable[[], None],
    ) -> None:
        self._head = head
        self._clock = clock
        self._status = status
        self._card = card
        self._on_quarantine = on_quarantine
        self._on_orders = on_orders
        self._on_forgotten = on_forgotten
        self._believed = 0
        self._path = folder / KEYS_FILE
        self.keys = GivenKeys(_read_keys(self._path))
        self._state_path = folder / STATE_FILE
        self.state: EdgeState = _read_state(self._state_path)
        self.joined = False
        """Whether the head has taken a beat: before, it hands out no work."""

    async def run(self) -> None:
        """Beat until cancelled."""
        # The head may be away, or refuse us until somebody gives us a new key.
        troubles = Troubles(
            _LOG, "the head does not take our beat", "the head takes our beats again"
        )
        while True:
            try:
                await self.beat()
                troubles.worked()
            except EvstreamError as error:
                troubles.failed(error)
            await self._clock.sleep(self._card.beat_s)

    def check_serving(self) -> None:
        """Refuse to serve where the head has decided so.

        Raises
        ------
        TransientError
        """
        if self.state in ("quarantined", "maintenance"):
            raise TransientError(f"this edge is {_HOW[self.state]}", hint="ask another edge")

    @property
    def takes_work(self) -> bool:
        """Whether the head may give this edge work; one that drains takes none."""
        return self.joined and self.state == "serving"

    async def have_keys(self) -> None:
        """Do nothing, once there are keys to check URLs with.

        Raises
        ------
        TransientError
            The head has given none yet.
        """
        if not self.keys.all:
            raise TransientError("the head has given no keys yet", hint="look at its log")

    async def beat(self) -> BeatAnswer:
        """Beat once, and take what comes back.

        Raises
        ------
        EvstreamError
            The head cannot be reached, or does not know us.
        """
        beat = EdgeBeat(
            self._card.url, self._card.beat_s, self._card.capacity_bytes, self._status()
        )
        answer = await self._head.beat(self._card.name, beat)
        self.joined = True
        keys = {one.epoch: bytes.fromhex(one.key) for one in answer.keys}
        if keys != self.keys.all:
            self.keys.replace(keys)
            _write_keys(self._path, keys)
        if answer.edge.state != self.state:
            why = f": {answer.edge.reason}" if answer.edge.reason else ""
            _LOG.warning("evstream: this edge is %s now%s", _HOW[answer.edge.state], why)
            before, self.state = self.state, answer.edge.state
            _write_state(self._state_path, self.state)
            if "quarantined" in (before, self.state):
                # Whatever was wrong with its bytes, nothing of them stays; nor does what was
                # still being made when it began.
                await self._on_quarantine()
        if self._believed and not answer.edge.products:
            self._on_forgotten()
        self._believed = answer.edge.products
        self._on_orders(answer.orders)
        return answer


def _read_keys(path: Path) -> dict[int, bytes]:
    try:
        return {
            int(epoch): bytes.fromhex(key) for epoch, key in json.loads(path.read_text()).items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        _LOG.warning("evstream: %s is of no use: %s", path, error)
        return {}


def _read_state(path: Path) -> EdgeState:
    try:
        found = path.read_text().strip()
    except OSError:
        return "serving"
    return next((state for state in get_args(EdgeState) if state == found), "serving")


def _write_state(path: Path, state: EdgeState) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(f"{state}\n")
        partial.replace(path)
    except OSError as error:
        # The head tells it again; only a restart without the head would miss it.
        _LOG.warning("evstream: %s cannot be written: %s", path, error)


def _write_keys(path: Path, keys: dict[int, bytes]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump({str(epoch): key.hex() for epoch, key in keys.items()}, file)
        partial.replace(path)
    except OSError as error:
        # They are in memory; only a restart without the head would miss them.
        _LOG.warning("evstream: %s cannot be written: %s", path, error)
