"""A unit of work as a payload sees it, and the plain loop over them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from evstream.payload.channel import Channel, Message

REASON_CHARS_MAX = 500


class Secondary:
    """Events of another dataset that come with a unit, such as pile-up.

    Attributes
    ----------
    files : list of Path
        Files with them, in order; one without entries if the unit gets no event.
    tree : str
        The tree in them.
    """

    def __init__(self, message: Message) -> None:
        self.files = [Path(path) for path in message["files"]]
        self.tree: str = message["tree"]


class Unit:
    """One event range to process. Exactly one answer is given for it.

    As a context manager it answers by itself: `done` at the end of the block, `failed`
    if an error leaves it, which ends there.

    Attributes
    ----------
    input : Path
        File with exactly this range's entries.
    outputs : dict of str to Path
        The file to write for each output stream; for one with a pattern, write files
        that match it into `directory`.
    entry_start, entry_stop : int
        The range in its source file, half-open.
    range_id : str
        Name of this attempt at this range, unique in the service.
    lfn : str
        The source file.
    tree : str
        The tree that was asked for.
    directory : Path
        The unit's own, removed when it has been answered for.
    log : Path
        The attempt's log; what is written there is kept if the unit fails.
    wall_s_max : float
        Seconds after which the unit counts as hung.
    secondary : dict of str to Secondary
        By name, events of other datasets that come with this unit.
    """

    def __init__(self, message: Message, channel: Channel) -> None:
        self._channel = channel
        self._id = message["id"]
        self.input = Path(message["input"])
        self.outputs = {name: Path(path) for name, path in message["outputs"].items()}
        self.entry_start: int = message["entry_start"]
        self.entry_stop: int = message["entry_stop"]
        self.range_id: str = message["range_id"]
        self.lfn: str = message["lfn"]
        self.tree: str = message["tree"]
        self.directory = Path(message["directory"])
        self.log = Path(message["log"])
        self.wall_s_max: float = message["wall_s_max"]
        self._file: str = message["file"]
        self._close: bool = message["close"]
        # Whoever looks at neither writes a file for each range, whatever the task says.
        self._knows_of_files = False
        beside = message.get("secondary", {})
        self.secondary = {name: Secondary(each) for name, each in beside.items()}
        self.answered = False
        self._begun = time.monotonic()
        self._cpu_begun = _cpu_s()
        channel.send(
            {"type": "running", "id": self._id, "pid": os.getpid(), "cpu_s": self._cpu_begun}
        )

    @property
    def file(self) -> str:
        """Units with the same are written into the same outputs; see `GrowingFile`."""
        self._knows_of_files = True
        return self._file

    @property
    def close(self) -> bool:
        """Whether the outputs are to be complete after this unit.

        Always, unless the task asks for several ranges in one file.
        """
        self._knows_of_files = True
        return self._close

    @property
    def output(self) -> Path:
        """The file to write, where there is one stream; else that of the first."""
        return next(iter(self.outputs.values()))

    def done(self, **outputs: os.PathLike[str] | str) -> None:
        """Say that the unit is processed, and its outputs complete if they are to be.

        Parameters
        ----------
        **outputs
            By stream, files that were written elsewhere than `outputs` says, such as
            the closed part of a growing file. They are taken away.
        """
        written = {name: os.fspath(path) for name, path in outputs.items()}
        left_open = self._knows_of_files and not self._close
        self._answer({"type": "done", "outputs": written, "open": left_open})

    def failed(self, reason: str) -> None:
        """Say that the unit came to nothing, and why."""
        self._answer({"type": "error", "reason": reason[:REASON_CHARS_MAX]})

    def _answer(self, message: Message) -> None:
        if self.answered:
            raise RuntimeError(f"{self.range_id} was answered for already")
        self.answered = True
        spent = {
            "cpu_s": _cpu_s() - self._cpu_begun,
            "wall_s": time.monotonic() - self._begun,
        }
        self._channel.send({**message, "id": self._id, **spent})

    def __enter__(self) -> Unit:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if error is None:
            if not self.answered:
                self.done()
            return False
        if isinstance(error, KeyboardInterrupt | GeneratorExit):
            return False
        # After the block: a payload that has written no log of its own has one then.
        import sys
        import traceback

        traceback.print_exception(error)
        sys.stderr.flush()
        if not self.answered:
            self.failed(_reason(error))
        return True


def units(channel: Channel | None = None) -> Iterator[Unit]:
    """Yield units one after another until there are no more.

    The first step tells the pilot that the process is ready: initialise before it. A
    unit that the loop leaves without an answer counts as failed.

    Raises
    ------
    ChannelError
        Nobody gives units to this process.
    """
    channel = channel or Channel.from_environment()
    channel.send({"type": "ready", "units_max": 1})
    yield from received(channel)


def received(channel: Channel) -> Iterator[Unit]:
    """Yield the units that come over a channel."""
    for message in channel.messages():
        if message["type"] == "unit":
            unit = Unit(message, channel)
            yield unit
            if not unit.answered:
                unit.failed("the payload went on without an answer for the unit")


def _reason(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        said = f"SystemExit: {error}".rstrip(": ")
        return f"{said} (it called sys.exit; return instead, or raise what is wrong)"
    return f"{type(error).__name__}: {error}"


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
