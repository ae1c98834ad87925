"""Files that several ranges are written into, one after the other."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

from evstream.payload.units import Unit

F = TypeVar("F")


class GrowingFile(Generic[F]):
    """A file that is opened for the first of some ranges and closed after the last.

    ::

        growing = GrowingFile(uproot.recreate, lambda file: file.close())

        def skim(unit: Unit) -> None:
            with growing.of(unit) as file:
                ...  # write what comes of unit.input

    Where a task has a file for each range, this opens and closes one for each. If a range
    fails, what is in the open file goes with it: the ranges come again, for a new file.

    Parameters
    ----------
    open_file : callable
        Given the path; returns the open file.
    close_file : callable
        Given the open file: writes what belongs at its end, metadata too, and closes it.
    stream : str
        The output stream; by default the first.
    """

    def __init__(
        self,
        open_file: Callable[[Path], F],
        close_file: Callable[[F], object],
        stream: str = "",
    ) -> None:
        self._open_file = open_file
        self._close_file = close_file
        self._stream = stream
        self._held: tuple[str, F] | None = None

    @contextlib.contextmanager
    def of(self, unit: Unit) -> Iterator[F]:
        """Give the open file for a unit, and close it at the end of the block if it is due."""
        if self._held is None or self._held[0] != unit.file:
            self._discard()
            path = unit.outputs[self._stream] if self._stream else unit.output
            self._held = unit.file, self._open_file(path)
        _, file = self._held
        try:
            yield file
        except BaseException:
            self._discard()
            raise
        if unit.close:
            self._held = None
            self._close_file(file)

    def _discard(self) -> None:
        """Let go of a file that nobody will ask for."""
        if self._held is not None:
            _, file = self._held
            self._held = None
            # Its directory may be gone; what cannot be written matters no more.
            with contextlib.suppress(Exception):
                self._close_file(file)
