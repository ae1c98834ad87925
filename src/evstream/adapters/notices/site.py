"""Notices of a site's own making: a file that appears, a command that says so."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from evstream.domain.errors import TransientError
from evstream.ports.notice import Notice


class FileAppears:
    """The `Notices` port on a file: once it is there, the node is to be left."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def look(self) -> Notice | None:
        """Return a notice if the file is there."""
        there = os.path.lexists(self._path)  # noqa: ASYNC240 - one look at a local disk
        return Notice(math.inf, evicted=True) if there else None


class CommandEnds:
    """The `Notices` port on a command: it ends with 0 if the node is to be left, else with another.

    Parameters
    ----------
    words : sequence of str
        Run without a shell. It should answer within some seconds; one that does not is killed.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words

    async def look(self) -> Notice | None:
        """Run the command; return a notice if it ends with 0."""
        nowhere = asyncio.subprocess.DEVNULL
        try:
            process = await asyncio.create_subprocess_exec(
                *self._words, stdin=nowhere, stdout=nowhere, stderr=nowhere
            )
        except OSError as error:
            raise TransientError(
                f"{self._words[0]} of eviction_notice cannot be run: {error.strerror}"
            ) from error
        try:
            status = await process.wait()
        except asyncio.CancelledError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        return Notice(math.inf, evicted=True) if status == 0 else None
