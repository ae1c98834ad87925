"""The folder of a group of pilots: logs, scripts, and how each ended."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from evstream.domain.errors import ConfigError, TransientError
from evstream.domain.names import WorkerId
from evstream.ports import PilotOrder, PilotStage, PilotState

LOG_BYTES = 4096
"""So much of a log's end is looked at for its last line."""

_SCRIPT = """\
#!/bin/sh
# A pilot, as 'evstream pilots' handed it in. It holds no secret.
{header}{exports}
cd {folder} || exit 1
{command} &
pilot=$!
# A batch system may tell this shell alone.
trap 'kill -TERM "$pilot" 2>/dev/null' TERM INT
wait "$pilot"
code=$?
while kill -0 "$pilot" 2>/dev/null; do
  wait "$pilot"
  code=$?
done
echo "$code" >{exit}.part && mv {exit}.part {exit}
exit "$code"
"""


class PilotFolder:
    """Files of a group of pilots, one of each kind for a pilot.

    Parameters
    ----------
    suffix : str
        Of the file that says that a pilot was started, and is not forgotten.
    """

    def __init__(self, folder: Path, group: str, suffix: str = ".sh") -> None:
        self.folder = folder.absolute()
        self._group = group
        self._suffix = suffix

    def make(self) -> None:
        """Make the folder.

        Raises
        ------
        ConfigError
        """
        try:
            for name in ("logs", "pilots"):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"cannot use {self.folder}: {error.strerror}", hint="choose another --folder"
            ) from error

    def path(self, name: WorkerId, suffix: str = "") -> Path:
        """Return where something about a pilot is."""
        return self.folder / "pilots" / f"{name}{suffix or self._suffix}"

    def log(self, name: WorkerId) -> Path:
        """Return where a pilot's output goes."""
        return self.folder / "logs" / f"{name}.log"

    def names(self) -> list[WorkerId]:
        """Return the pilots of the group that were started and not forgotten."""
        found = self.path(WorkerId("")).parent.glob(f"{self._group}-*{self._suffix}")
        return [WorkerId(path.name.removesuffix(self._suffix)) for path in found]

    def remove(self, name: WorkerId) -> None:
        """Remove all files about a pilot but its log."""
        parent = self.path(name).parent
        # What says that it was started goes last: what is removed halfway is removed again.
        others = sorted(parent.glob(f"{name}.*"), key=lambda path: path.suffix == self._suffix)
        for path in others:
            path.unlink(missing_ok=True)

    def write_script(self, order: PilotOrder, header: Sequence[str] = ()) -> Path:
        """Write a script that runs a pilot and leaves its exit status beside itself."""
        quote = shlex.quote
        text = _SCRIPT.format(
            header="".join(f"{line}\n" for line in header),
            exports="\n".join(f"export {k}={quote(v)}" for k, v in order.environment.items()),
            folder=quote(str(self.folder)),
            command=shlex.join(order.command),
            exit=quote(str(self.path(order.name, ".exit"))),
        )
        script = self.path(order.name)
        script.write_text(text, encoding="utf-8")
        script.chmod(0o700)
        return script

    @contextmanager
    def telling(self, name: WorkerId) -> Iterator[None]:
        """Write to a pilot's log why it could not be handed in: it will look like one that died."""
        try:
            yield
        except TransientError as error:
            self.log(name).write_text(f"{error.message}\n", encoding="utf-8")
            raise

    def ending(self, name: WorkerId, cause: str) -> PilotState:
        """Return the state of a pilot that has ended; the cause is told if it left no status."""
        try:
            code = int(self.path(name, ".exit").read_text())
        except (OSError, ValueError):
            return PilotState(PilotStage.ENDED, cause, None, self.last_words(name))
        # A shell says a signal so.
        return ended_by(128 - code if code > 128 else code, self.last_words(name))

    def last_words(self, name: WorkerId) -> str:
        """Return the last line of a pilot's log; empty if there is none."""
        try:
            with self.log(name).open("rb") as log:
                log.seek(0, 2)
                log.seek(max(0, log.tell() - LOG_BYTES))
                said = log.read().decode("utf-8", "replace").strip().splitlines()
        except OSError:
            return ""
        return said[-1].removeprefix("evstream: error: ") if said else ""


def ended_by(code: int, said: str) -> PilotState:
    """Return the state of a process that ended; a signal is negative, as Python has it."""
    cause = f"signal {-code}" if code < 0 else f"exit {code}"
    return PilotState(PilotStage.ENDED, cause, code == 0, said)
