"""Pilots as jobs of Slurm, by its commands.

Who a job is stands in its name, so a later engine finds the jobs of a group again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from evstream.adapters.engines.batch_commands import run_command
from evstream.adapters.engines.folder import PilotFolder
from evstream.domain.names import WorkerId
from evstream.ports import PilotOrder, PilotStage, PilotState

# squeue(1), JOB STATE CODES. Whatever else there is, or comes, is an end.
PENDING = frozenset(
    ("CONFIGURING", "PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD")
)
RUNNING = frozenset(
    ("COMPLETING", "RESIZING", "RUNNING", "SIGNALING", "STAGE_OUT", "STOPPED", "SUSPENDED")
)


class SlurmEngine:
    """Hands pilots to Slurm.

    Parameters
    ----------
    folder : Path
        For scripts, logs and exit statuses; nodes see it under the same name.
    group : str
        Names of its jobs begin with it.
    options : sequence of str
        Of sbatch: ``--partition=short``, ``--time=12:00:00``.
    """

    look_every_s = 2.0

    def __init__(self, folder: Path, group: str, options: Sequence[str] = ()) -> None:
        self._folder = PilotFolder(folder, group)
        self._options = tuple(options)
        self._jobs: dict[WorkerId, str] = {}

    async def open(self) -> None:
        self._folder.make()
        await run_command("sbatch", "--version")

    async def start(self, order: PilotOrder) -> None:
        script = self._folder.write_script(order)
        # Again under the same name would be two pilots of one name; we start others.
        words = ["sbatch", "--parsable", "--no-requeue", f"--job-name={order.name}"]
        words += [f"--cpus-per-task={order.cores}", f"--output={self._folder.log(order.name)}"]
        words += ["--export=ALL", *self._options, str(script)]
        with self._folder.telling(order.name):
            self._jobs[order.name] = await run_command(*words)

    async def look(self) -> Mapping[WorkerId, PilotState]:
        names = self._folder.names()
        if not names:
            return {}
        listed = await run_command(
            "squeue", "--me", "--noheader", "--states=all", "--format=%i|%T|%j"
        )
        states: dict[str, str] = {}
        for line in listed.splitlines():
            job, state, name = line.strip().split("|", 2)
            states[name] = state
            self._jobs[WorkerId(name)] = job
        return {name: self._state(name, states.get(name)) for name in names}

    def _state(self, name: WorkerId, state: str | None) -> PilotState:
        if state in PENDING:
            return PilotState(PilotStage.PENDING)
        if state in RUNNING:
            return PilotState(PilotStage.RUNNING)
        # Slurm forgets a job some minutes after its end.
        return self._folder.ending(name, state or "unknown")

    async def end(self, name: WorkerId, *, at_once: bool = False) -> None:
        job = self._jobs.get(name)
        if job is None:
            return
        # Plain, Slurm sends SIGTERM to all of the job, and SIGKILL after its KillWait.
        hard = ["--signal=KILL", "--full"] if at_once else []
        await run_command("scancel", "--quiet", *hard, job)

    async def forget(self, name: WorkerId) -> None:
        self._jobs.pop(name, None)
        self._folder.remove(name)

    async def close(self) -> None:
        self._jobs.clear()
