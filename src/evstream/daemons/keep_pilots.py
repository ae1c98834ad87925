"""Keep a number of pilots alive while there is work."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from evstream.client import Service
from evstream.domain.errors import ConfigError, EvstreamError, TransientError
from evstream.domain.names import WorkerId
from evstream.domain.replacing import SETTLED_S, Replacing
from evstream.ports import Clock, Engine, Ids, PilotOrder, PilotStage, PilotState

_LOG = logging.getLogger(__name__)

LOOK_S_LEAST = 0.05


@dataclass(frozen=True, slots=True)
class Ended:
    """A pilot that ended unasked.

    Attributes
    ----------
    over_work : bool
        Whether a unit ran in it: what killed it may have been that.
    """

    name: WorkerId
    state: PilotState
    over_work: bool


@dataclass(frozen=True, slots=True)
class Kept:
    """How many pilots there are and were."""

    running: int = 0
    pending: int = 0
    started: int = 0
    ended: int = 0
    failed: int = 0
    wait_s: float = 0.0

    def __str__(self) -> str:
        """Say it in a line."""
        parts = [f"{self.running} running", f"{self.pending} pending", f"{self.started} started"]
        parts += [f"{self.ended} ended"] if self.ended else []
        parts += [f"{self.failed} of them failed"] if self.failed else []
        parts += [f"the next in {self.wait_s:.0f} s"] if self.wait_s else []
        return ", ".join(parts)


INSIST_S = 60.0
"""So long pilots that should have ended are made to, again and again."""


@dataclass(slots=True)
class _Seen:
    """When a pilot was started, and when it was first seen to run."""

    started: float
    ran_from: float | None = None
    asked: bool = False


class PilotKeeper:
    """Starts pilots through an engine, replaces those that end, and ends them.

    Parameters
    ----------
    service : Service
        Told when a pilot ended, so that its leases need not run out.
    order : PilotOrder
        What to start. Its name is the group's; `{name}` in its command is the pilot's.
    replacing : Replacing, optional
        How soon; at once where it is None.
    on_end : callable, optional
        Told of each pilot that ended unasked. What it raises ends the keeping.
    """

    def __init__(
        self,
        service: Service,
        engine: Engine,
        clock: Clock,
        ids: Ids,
        order: PilotOrder,
        replacing: Replacing | None = None,
        on_end: Callable[[Ended], None] = lambda _: None,
    ) -> None:
        self._service = service
        self._engine = engine
        self._clock = clock
        self._ids = ids
        self._order = order
        self._replacing = replacing
        self._on_end = on_end
        self._seen: dict[WorkerId, _Seen] = {}
        self._counts = Counter[str]()
        self.kept = Kept()

    async def keep(self, wanted: Callable[[], int]) -> None:
        """Keep as many pilots as are wanted at each time, until cancelled.

        Raises
        ------
        EvstreamError
            The service or the batch system refuses, and would again.
        """
        while True:
            try:
                await self.step(wanted())
            except TransientError as error:
                _LOG.warning("pilots are not looked after for now: %s", error)
            await self._clock.sleep(max(LOOK_S_LEAST, self._engine.look_every_s))

    async def step(self, wanted: int) -> None:
        """Look once, and do what is to be done."""
        found = await self._look()
        now = self._clock.monotonic()
        alive = [name for name, state in found.items() if state.stage is not PilotStage.ENDED]
        missing = wanted - len(alive)
        if wanted <= 0:
            await self._end_each(alive)
        if missing > 0:
            for _ in range(self._allowed(now, missing, alive)):
                await self._start(now)
        self._tell(found, now)

    async def end_all(self, patience_s: float) -> None:
        """Ask all pilots to leave, make those that do not, and tell the service.

        Raises
        ------
        TransientError
            Some could not be ended, or nobody says what there is.
        """
        deadline = self._clock.monotonic() + patience_s
        while True:
            late = self._clock.monotonic() - deadline
            try:
                found = await self._engine.look()
            except TransientError as error:
                if late > INSIST_S:
                    raise
                _LOG.warning("pilots cannot be looked after: %s", error)
            else:
                alive = [n for n, state in found.items() if state.stage is not PilotStage.ENDED]
                if not alive:
                    break
                if late > INSIST_S:
                    raise TransientError(
                        f"{len(alive)} pilots could not be ended: {', '.join(alive[:10])}",
                        hint="end their jobs by hand",
                    )
                await self._end_each(alive, at_once=late >= 0)
            await self._clock.sleep(max(LOOK_S_LEAST, self._engine.look_every_s))
        for name in found:
            await self._engine.forget(name)
            with suppress(EvstreamError):
                # One that left in order holds nothing; leases of others run out otherwise.
                await self._service.forget_worker(name)

    async def _look(self) -> Mapping[WorkerId, PilotState]:
        """Return what there is; those that have ended are buried."""
        found = await self._engine.look()
        now = self._clock.monotonic()
        for name, state in found.items():
            # Found and not started by us: of a keeper before us.
            seen = self._seen.setdefault(name, _Seen(now))
            if state.stage is PilotStage.RUNNING and seen.ran_from is None:
                seen.ran_from = now
            if state.stage is PilotStage.ENDED:
                await self._bury(name, state, seen)
            elif self._replacing is not None and self._age(seen, now) >= SETTLED_S:
                self._replacing.lasted(seen.started)
        return found

    async def _bury(self, name: WorkerId, state: PilotState, seen: _Seen) -> None:
        held = (await self._service.forget_worker(name)).held
        await self._engine.forget(name)
        del self._seen[name]
        self._counts["ended"] += 1
        if seen.asked:
            return
        now = self._clock.monotonic()
        if not state.ok:
            self._counts["failed"] += 1
            _LOG.warning("pilot %s ended by %s: %s", name, state.cause, state.said or "no word")
        if self._replacing is not None:
            self._replacing.ended(now, seen.started, self._age(seen, now))
        self._on_end(Ended(name, state, any(row.running for row in held)))

    @staticmethod
    def _age(seen: _Seen, now: float) -> float:
        return 0.0 if seen.ran_from is None else now - seen.ran_from

    def _allowed(self, now: float, missing: int, alive: list[WorkerId]) -> int:
        if self._replacing is None:
            return missing
        young = sum(self._age(self._seen[name], now) < SETTLED_S for name in alive)
        return self._replacing.may_start(now, missing, young)

    async def _start(self, now: float) -> None:
        name = WorkerId(f"{self._order.name}-{self._ids.new('p')[-8:]}")
        command = tuple(word.replace("{name}", name) for word in self._order.command)
        await self._engine.start(replace(self._order, name=name, command=command))
        self._seen[name] = _Seen(now)
        self._counts["started"] += 1

    async def _end_each(self, names: Iterable[WorkerId], *, at_once: bool = False) -> None:
        """End pilots; who cannot be is asked at the next look, and holds up no other."""
        for name in names:
            seen = self._seen.setdefault(name, _Seen(self._clock.monotonic()))
            if seen.asked and not at_once:
                continue
            try:
                await self._engine.end(name, at_once=at_once)
            except TransientError as error:
                # It may have ended in this moment, which the next look shows.
                _LOG.warning("pilot %s cannot be ended for now: %s", name, error)
            else:
                seen.asked = True

    def _tell(self, found: Mapping[WorkerId, PilotState], now: float) -> None:
        stages = Counter(state.stage for state in found.values())
        self.kept = Kept(
            stages[PilotStage.RUNNING],
            stages[PilotStage.PENDING],
            **self._counts,
            wait_s=self._replacing.wait_s(now) if self._replacing else 0.0,
        )


DEATHS_MAX = 10
"""So many pilots in a row that ended early, each after a longer wait: somebody has to look."""


def give_up_on(replacing: Replacing, deaths_max: int = DEATHS_MAX) -> Callable[[Ended], None]:
    """Return what ends the keeping when no pilot lasts.

    Raises
    ------
    ConfigError
        By what is returned.
    """

    def look(ended: Ended) -> None:
        if replacing.streak >= deaths_max:
            raise none_lasts(replacing.streak, ended)

    return look


def none_lasts(number: int, last: Ended) -> ConfigError:
    """Return the error of pilots that end one after another."""
    said = f": {last.state.said}" if last.state.said else ""
    return ConfigError(
        f"{number} workers ended one after another, the last by {last.state.cause}{said}",
        hint=f"see the log of {last.name}; when that is mended, give the same command again",
    )
