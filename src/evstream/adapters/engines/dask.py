"""Pilots as tasks of a Dask cluster: one that is there, or one that is made for them."""

from __future__ import annotations

import asyncio
import importlib
import logging
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evstream.adapters.engines import dask_worker
from evstream.adapters.engines.folder import PilotFolder, ended_by
from evstream.domain.errors import ConfigError, RequestError, TransientError
from evstream.domain.names import WorkerId
from evstream.ports import PilotOrder, PilotStage, PilotState

ANSWER_S_MAX = 30.0
_GONE = {"cancelled", "lost"}


@dataclass(frozen=True, slots=True)
class DaskPlace:
    """Which cluster.

    Attributes
    ----------
    scheduler : str
        Its address, or a file that holds it; empty if a cluster is made.
    cluster : str
        ``module:Class`` of a cluster to make, such as ``dask_jobqueue:SLURMCluster``.
    arguments : mapping
        For making it; what Dask's own configuration says need not be repeated.
    resources : mapping of str to float
        That a pilot takes of a worker: with 1 of a worker's 1, one runs in each.
    workers : int
        That a cluster is to have.
    """

    scheduler: str = ""
    cluster: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    resources: Mapping[str, float] = field(default_factory=dict)
    workers: int = 1


class DaskEngine:
    """Hands pilots to Dask; each takes a thread of a worker until it ends.

    Parameters
    ----------
    folder : Path
        For logs, if workers see it, and for what was started.
    group : str
        Names of its pilots begin with it.
    """

    look_every_s = 2.0

    def __init__(self, folder: Path, group: str, place: DaskPlace) -> None:
        if bool(place.scheduler) == bool(place.cluster):
            raise RequestError(
                "Dask needs a scheduler, or a cluster to make, and not both",
                hint="give --scheduler ADDRESS, or --cluster module:Class",
            )
        self._folder = PilotFolder(folder, group, suffix=".dask")
        self._place = place
        self._client: Any = None
        self._cluster: Any = None
        self._futures: dict[WorkerId, Any] = {}
        self._by_value: dict[str, Any] = {}

    async def open(self) -> None:
        try:
            import distributed
        except ImportError as error:
            raise ConfigError(
                f"Dask is not installed: {error}", hint="pip install 'evstream[dask]'"
            ) from error
        # What it logs of each lost worker and connection is told by us.
        logging.getLogger(distributed.__name__).setLevel(logging.CRITICAL)
        self._folder.make()
        if self._place.cluster:
            await self._make_cluster()
        try:
            await self._connect()
        except TransientError:
            await self.close()
            raise

    def _where(self) -> dict[str, Any]:
        scheduler = self._place.scheduler
        if scheduler and Path(scheduler).is_file():
            return {"scheduler_file": scheduler}
        return {"address": self._cluster or scheduler}

    async def _connect(self) -> None:
        from distributed import Client

        place = self._place
        try:
            self._client = await Client(
                **self._where(), asynchronous=True, set_as_default=False, timeout=ANSWER_S_MAX
            )
        except (OSError, TimeoutError, ValueError) as error:
            raise TransientError(
                f"no Dask scheduler answers at {place.scheduler or place.cluster}: {error}",
                hint="start one with 'dask scheduler', and workers with 'dask worker'",
            ) from error

    async def _make_cluster(self) -> None:
        module, _, name = self._place.cluster.partition(":")
        try:
            made = getattr(importlib.import_module(module), name)
            self._cluster = await made(**self._place.arguments, asynchronous=True)
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            raise ConfigError(
                f"the cluster {self._place.cluster} cannot be made: {error}",
                hint="see its arguments, and Dask's configuration for it",
            ) from error
        # Not scale(): what a batch system has ended is started again only in this way.
        self._cluster.adapt(minimum=self._place.workers, maximum=self._place.workers)

    def _sent(self, function: Callable[..., Any]) -> Any:
        """Return a function in a form that a worker without evstream understands."""
        name = function.__name__
        if name not in self._by_value:
            self._by_value[name] = ByValue(function)
        return self._by_value[name]

    async def start(self, order: PilotOrder) -> None:
        self._folder.path(order.name).touch()
        self._futures[order.name] = self._client.submit(
            self._sent(dask_worker.run_pilot),
            order.name,
            list(order.command),
            dict(order.environment),
            str(self._folder.log(order.name)),
            key=str(order.name),
            resources=dict(self._place.resources) or None,
            pure=False,
        )

    async def look(self) -> Mapping[WorkerId, PilotState]:
        names = self._folder.names()
        if not names:
            return {}
        listed = await self._listed()
        running = {name for pilots in listed.values() if pilots is not None for name in pilots}
        unknown = [name for name in names if name not in running and name not in self._futures]
        silent = sum(pilots is None for pilots in listed.values())
        if silent and unknown:
            # A keeper before us started it: nobody but its worker knows whether it lives.
            raise TransientError(
                f"{silent} of Dask's workers do not answer: {unknown[0]} may be on one of them"
            )
        return {name: await self._state(name, name in running) for name in names}

    async def _listed(self) -> Mapping[str, list[WorkerId] | None]:
        """Return the pilots on each worker; None for one that does not answer."""
        listed = await self._on_all(dask_worker.list_pilots)
        return {
            worker: None if isinstance(pilots, BaseException) else pilots
            for worker, pilots in listed.items()
        }

    async def _state(self, name: WorkerId, running: bool) -> PilotState:
        future = self._futures.get(name)
        if future is not None and future.status == "finished":
            code, said = await self._result(future)
            if code is None:
                return PilotState(PilotStage.ENDED, "worker lost", None, said)
            return ended_by(code, said.removeprefix("evstream: error: "))
        if running:
            return PilotState(PilotStage.RUNNING)
        if future is None or future.status in _GONE:
            # Of a keeper before us, or the scheduler was started anew.
            said = self._folder.last_words(name)
            return PilotState(PilotStage.ENDED, "unknown", None, said)
        if future.status == "error":
            return PilotState(PilotStage.ENDED, "error", False, str(await future.exception()))
        return PilotState(PilotStage.PENDING)

    async def _result(self, future: Any) -> Any:
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                return await future
        except (OSError, TimeoutError) as error:
            raise TransientError(f"Dask's worker does not give its result: {error}") from error

    async def end(self, name: WorkerId, *, at_once: bool = False) -> None:
        number = signal.SIGKILL if at_once else signal.SIGTERM
        listed = await self._listed()
        places = [worker for worker, pilots in listed.items() if pilots and name in pilots]
        if places:
            await self._on_all(dask_worker.signal_pilot, str(name), int(number), workers=places)
        elif (future := self._futures.get(name)) is not None and not future.done():
            await future.cancel()

    async def _on_all(self, function: Callable[..., Any], *words: Any, **where: Any) -> Any:
        if self._client.status == "closed":
            # It looks for its scheduler for a while, and then never again.
            await self._connect()
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                # A worker that dies meanwhile is no error of the others.
                return await self._client.run(
                    self._sent(function), *words, **where, on_error="return"
                )
        except (OSError, TimeoutError) as error:
            raise TransientError(f"Dask's scheduler does not answer: {error}") from error

    async def forget(self, name: WorkerId) -> None:
        from distributed import Event

        if (future := self._futures.pop(name, None)) is not None:
            future.release()
        with suppress(OSError, TimeoutError):
            await Event(f"evstream-{name}", client=self._client).clear()
        self._folder.remove(name)

    async def close(self) -> None:
        self._futures.clear()
        for one in (self._client, self._cluster):
            if one is not None:
                await one.close()
        self._client = self._cluster = None


class ByValue:
    """A function of `dask_worker` that is sent as what it is, not as a name to import."""

    def __init__(self, function: Callable[..., Any]) -> None:
        import cloudpickle

        self.__name__ = function.__name__
        self._function = function
        cloudpickle.register_pickle_by_value(dask_worker)
        try:
            self._pickled = cloudpickle.dumps(function)
        finally:
            cloudpickle.unregister_pickle_by_value(dask_worker)

    def __call__(self, *words: Any, **named: Any) -> Any:
        return self._function(*words, **named)

    def __reduce__(self) -> tuple[Any, ...]:
        import cloudpickle

        return cloudpickle.loads, (self._pickled,)
