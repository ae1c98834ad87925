"""Ports that fail now and then: databases, stores and disks do."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from evstream.domain.errors import TransientError

Port = TypeVar("Port")


@dataclass(frozen=True, slots=True)
class PortCall:
    """One call of a port.

    Attributes
    ----------
    name : str
        Port and method: "ledger.report_ranges".
    number : int
        Counts the calls of this name from 1.
    """

    name: str
    number: int


class PortFaults:
    """Wraps ports so that chosen calls raise `TransientError`.

    Parameters
    ----------
    fails : callable
        Told of each call; whether it fails.
    done : callable
        Whether a call that fails has done its work all the same, and its answer is lost.

    Attributes
    ----------
    counts : dict
        Calls so far by name.
    """

    def __init__(self, fails: Callable[[PortCall], bool], *, done: Callable[[], bool]) -> None:
        self._fails = fails
        self._done = done
        self.counts: dict[str, int] = {}

    def wrap(self, name: str, port: Port) -> Port:
        """Return a port that behaves as this one does, but for the faults."""
        return cast("Port", _FaultyPort(self, name, port))

    def fault_of(self, name: str) -> TransientError | None:
        """Count a call; return the error that it is to raise."""
        number = self.counts[name] = self.counts.get(name, 0) + 1
        if not self._fails(PortCall(name, number)):
            return None
        return TransientError(f"simulated: call {number} of {name} failed")

    def done(self) -> bool:
        """Whether a call that fails has done its work."""
        return self._done()


class _FaultyPort:
    def __init__(self, faults: PortFaults, name: str, port: object) -> None:
        self._faults = faults
        self._name = name
        self._port = port

    def __getattr__(self, method: str) -> Any:
        found = getattr(self._port, method)
        name = f"{self._name}.{method}"
        if inspect.iscoroutinefunction(found):
            return self._coroutine(name, found)
        if inspect.isasyncgenfunction(found):
            return self._stream(name, found)
        return self._blocking(name, found)

    def _coroutine(self, name: str, found: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*args: Any, **options: Any) -> Any:
            fault = self._faults.fault_of(name)
            if fault and not self._faults.done():
                raise fault
            answer = await found(*args, **options)
            if fault:
                raise fault
            return answer

        return call

    def _stream(self, name: str, found: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*args: Any, **options: Any) -> AsyncIterator[bytes]:
            fault = self._faults.fault_of(name)
            if fault and not self._faults.done():
                raise fault
            async for piece in found(*args, **options):
                yield piece
            if fault:
                raise fault

        return call

    def _blocking(self, name: str, found: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            fault = self._faults.fault_of(name)
            if fault:
                raise fault
            return found(*args, **options)

        return call
