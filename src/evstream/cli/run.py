"""``evstream run``: the whole job as one process tree."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

from cyclopts import Parameter

from evstream.cli.commands import EXIT_INCOMPLETE
from evstream.cli.payload_checks import look_at_payload
from evstream.cli.printing import print_json, print_pairs
from evstream.cli.progress import describe
from evstream.cli.service import Json, run_async, settings_of
from evstream.cli.status import watch_task
from evstream.cli.summary import Summary, summarize
from evstream.cli.task_options import DEFAULT_OPTIONS, TaskOptions
from evstream.cli.workers import keep_workers
from evstream.client import Service
from evstream.client.inputs import expand_inputs, tree_of_inputs
from evstream.client.registering import with_secondary
from evstream.client.results import RECEIPT_NAME, fetch_results, replaceable
from evstream.client.sandbox import send_sandbox
from evstream.client.task_file import SecondaryInputs, TaskFile
from evstream.domain.errors import (
    ConfigError,
    ConflictError,
    EvstreamError,
    LimitError,
    NotFoundError,
    RequestError,
    TransientError,
)
from evstream.domain.receipt import ExportNames
from evstream.domain.states import TaskState
from evstream.wire.messages import FailureView, NewDataset, NewTask, TaskView, encode

STATE_FOLDER = ".evstream"
WORKERS_MAX = 1024
REASONS_MAX = 3
FREE_BYTES_MIN = 64 << 10
GUARD_EVERY_S = 1.0


class _InterruptedJobError(Exception):
    """A signal came while the job was at work; the text says how far it was."""

    def __init__(self, number: int, where: str) -> None:
        super().__init__(where)
        self.number = number


@dataclass
class _Job:
    files: NewDataset
    task: NewTask
    output: Path
    workers: int
    sandbox: str
    secondary: list[SecondaryInputs]
    opened: bool = False
    done_before: bool = False
    begun: bool = False

    def request_id(self, dataset: str) -> str:
        """Return an id by which the same job goes on after a kill.

        A dataset's name derives from its files' content: other content, another job.
        """
        parts = encode(self.files), encode(self.task), dataset.encode()
        return hashlib.sha256(b"\n".join(parts)).hexdigest()


def run(
    *inputs: Annotated[
        str, Parameter(help="Files, globs, folders, URLs, or a coffea fileset JSON.")
    ],
    options: TaskOptions = DEFAULT_OPTIONS,
    workers: Annotated[int | None, Parameter(help="Worker processes; default one a core.")] = None,
    output: Annotated[str, Parameter(help="Folder for the results.")] = "evstream-output",
    dataset: Annotated[str, Parameter(help="Which dataset of a coffea fileset.")] = "",
    json: Json = False,
) -> None:
    """Process files event range by event range, and account for every event.

    Killed or interrupted, the same command goes on where it was. Exits with 3 if
    some events could not be processed.

    For example:

        evstream run data/*.root --payload 'python skim.py {input} {output}' --merge
    """
    count = _workers(workers)
    if not output.strip():
        raise RequestError("--output is empty", hint="name a folder, or . for this one")
    folder = Path(output).absolute()
    described = options.describe(list(inputs), dataset)
    _refuse_chain(described)
    look_at_payload(described, here=True)
    state = folder / STATE_FOLDER
    files = _files_of(described, folder)
    tree = tree_of_inputs(described.inputs, described.dataset)
    task = described.request("", tree)
    new_output, new_state = not folder.exists(), not state.exists()
    _make_folder(Path(output))
    job = _Job(files, task, folder, count, described.sandbox, described.secondary)
    try:
        view, report, reasons = run_async(lambda: _run(job))
    except _InterruptedJobError as interrupt:
        _say([f"interrupted: {interrupt}", "the same command goes on where it was"])
        sys.exit(128 + interrupt.number)
    except EvstreamError as error:
        # Nothing was begun: leave the place as it was found, unless somebody else has it.
        taken = isinstance(error, ConflictError) and not job.opened
        if new_state and not (job.begun or taken):
            shutil.rmtree(folder if new_output else state, ignore_errors=True)
        if taken:
            raise _in_use(output, error) from error
        raise
    if json:
        answer = {"task": view, "summary": report, "output": str(job.output)}
        print_json({**answer, "computed": not job.done_before, "reasons": reasons})
    else:
        print_pairs([*report.rows(), ("results", job.output)])
    if job.done_before:
        ended = f"task {view.id} ended as {view.state.value} on {view.ended:%Y-%m-%d at %H:%M:%S}"
        remedy = "for another result, of a script that was changed, say, give another --output"
        _say([f"{ended} UTC; nothing was computed anew; {remedy}"])
    if view.state is not TaskState.DONE:
        _say_what_is_missing(view, reasons)
        sys.exit(EXIT_INCOMPLETE)


def _files_of(described: TaskFile, folder: Path) -> NewDataset:
    try:
        return NewDataset(expand_inputs(described.inputs, described.dataset, besides=folder))
    except NotFoundError as error:
        raise _told_how_to_go_on(error, folder / STATE_FOLDER) from error


def _told_how_to_go_on(error: NotFoundError, state: Path) -> NotFoundError:
    """Return the error of an input that is not there; a job that had it may go on here."""
    if not state.exists():
        return error
    return NotFoundError(
        error.message,
        hint="check its name; if it is gone, bring it back, and the same command goes on, or "
        f"take it out of the task: 'evstream serve --data {state}', 'evstream task withdraw'",
        **error.fields,
    )


def _refuse_chain(task: TaskFile) -> None:
    if task.takes:
        raise RequestError(
            "the task takes outputs of other tasks, and here it is the only one",
            hint="hand it to the service that has them: evstream submit",
        )


def _workers(asked: int | None) -> int:
    count = asked if asked is not None else os.cpu_count() or 1
    if not 1 <= count <= WORKERS_MAX:
        raise LimitError(
            f"{count} workers are asked for", hint=f"give --workers from 1 to {WORKERS_MAX}"
        )
    return count


def _in_use(output: str, error: EvstreamError) -> ConflictError:
    pid = error.fields.get("pid")
    return ConflictError(
        f"{output} is in use by {f'process {pid}' if pid else 'another process'}",
        hint="wait until that 'evstream run' has ended, or choose another --output",
    )


def _say_what_is_missing(view: TaskView, reasons: list[str]) -> None:
    next_step = "a task that has ended stays so; mend the cause and give another --output"
    _say([f"task {view.state.value}: {view.reason}", *reasons, next_step])


def _say(texts: list[str]) -> None:
    for line in "\n".join(texts).splitlines():
        print(f"evstream: {line}", file=sys.stderr)


def _make_folder(output: Path) -> None:
    """Make the output folder if need be and see that it can be written."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            pass
    except OSError as error:
        raise ConfigError(
            f"cannot write to {output}: {error.strerror}",
            hint="choose another with --output",
        ) from error


async def _run(job: _Job) -> tuple[TaskView, Summary, list[str]]:
    from evstream import assembly
    from evstream.pilot.scratch import sweep

    state = job.output / STATE_FOLDER
    # Its ledger is its own, and so is its store.
    settings = settings_of(
        data_dir=state, outputs_dir="", output_store="", output_store_fallback=""
    )
    async with assembly.open_embedded(settings) as application:
        job.opened = True
        service = application.client()
        job.task = await send_sandbox(service, job.task, job.sandbox)
        job.task = await with_secondary(service, job.task, job.secondary)
        registered = await service.add_dataset(job.files)
        new = NewTask(**{**_fields(job.task), "dataset": registered.name})
        request_id = job.request_id(registered.name)
        known = await service.tasks()
        mine = next((view for view in known if view.request_id == request_id), None)
        job.done_before = mine is not None and mine.state.final
        if not job.done_before:
            own = await replaceable(service, mine.id, folder=job.output) if mine else set[Path]()
            _refuse_results_of_others(job, own)
            _warn_of_unfinished(job, [view for view in known if view.request_id != request_id])
        # One that ended long ago is not known by its request id any more, but it is there.
        task = mine or await service.submit(new, request_id)
        job.begun = True
        if task.state is TaskState.PAUSED:
            await service.resume(task.id)
        # More workers than ranges would only start and leave.
        job.workers = min(job.workers, max(1, task.process.ranges))
        door, address = assembly.unix_door(state)
        started = time.monotonic()
        async with assembly.listen(application, door, address, state):
            view = await _work(job, service, address.url, state, task.id)
        if not view.state.final:
            raise TransientError(
                f"task paused: {view.reason}",
                hint="mend the cause, then give the same command again: it goes on where it was",
            )
        wall_s = time.monotonic() - started
        await fetch_results(service, view.id, job.output)
        await application.sweep()
        sweep(state / "work")
        receipt = await service.receipt(view.id)
        reasons = _reasons(await service.failures(view.id), state / "outputs")
    took = None if job.done_before else wall_s
    return view, summarize(receipt, took, job.workers, task.process.cpu_s), reasons


def _refuse_results_of_others(job: _Job, own: set[Path]) -> None:
    """Refuse a folder with results that would be replaced, before anything is computed.

    Parameters
    ----------
    own : set of Path
        Earlier results of this job, whose task was opened again since.
    """
    if own:
        remedy = "what it left in the folder is replaced when it has ended"
        _say([f"the task was opened again since {RECEIPT_NAME} was written; {remedy}"])
    names = ExportNames(job.task.outputs)
    merged = [names.merged(stream.name) for stream in job.task.outputs if stream.merge]
    for name in (RECEIPT_NAME, *merged):
        path = job.output / name
        if os.path.lexists(path) and path not in own:
            raise ConflictError(
                f"{path} is there and is not of this job (its input, payload or flags differ)",
                hint="choose another --output, or move it away",
            )


def _warn_of_unfinished(job: _Job, others: list[TaskView]) -> None:
    """Say of a job that was killed here that this one will take its place."""
    for view in others:
        if not view.state.final:
            job_there = f"task {view.id} ({view.spec.name}) of another job has not ended in"
            remedy = "to keep both, interrupt this one and give another --output"
            _say([f"{job_there} {job.output} and cannot go on beside these results; {remedy}"])


def _reasons(failures: list[FailureView], outputs: Path) -> list[str]:
    """Return the commonest reasons of failed attempts, each with a log to read."""
    counted = Counter((failure.kind, failure.error) for failure in failures)
    lines = []
    for reason, count in counted.most_common(REASONS_MAX):
        alike = [failure for failure in failures if (failure.kind, failure.error) == reason]
        one = next((failure for failure in alike if failure.log), alike[0])
        where = [f"as for entries {one.entry_start}:{one.entry_stop} of {one.lfn}"]
        where = [] if one.merge else where
        where += [f"log: {outputs / one.log}"] if one.log else []
        told = f" ({', '.join(where)})" if where else ""
        lines.append(f"{count} x {one.kind}: {one.error}{told}")
    return lines


def _fields(task: NewTask) -> dict[str, Any]:
    return {name: getattr(task, name) for name in task.__struct_fields__}


async def _guard_space(folder: Path) -> NoReturn:
    """End the job when its disk is full: ranges that fail for that would fail in vain."""
    while True:
        if shutil.disk_usage(folder).free < FREE_BYTES_MIN:
            raise ConfigError(
                f"no space is left on the disk of {folder}",
                hint="make room, then give the same command again: it goes on where it was",
            )
        await asyncio.sleep(GUARD_EVERY_S)


async def _work(job: _Job, service: Service, url: str, state: Path, task: int) -> TaskView:
    """Keep workers alive until the task has ended, or somebody interrupts."""
    # What is initialised once is shared by the workers that it forks, in one pilot.
    once = job.task.payload.kind != "command"
    number, cores = (1, job.workers) if once else (job.workers, 1)
    loop = asyncio.get_running_loop()
    keeping = loop.create_task(keep_workers(url, service, state / "work", number, task, cores))
    guarding = loop.create_task(_guard_space(job.output))
    watching = loop.create_task(watch_task(service, task))
    signals: asyncio.Queue[int] = asyncio.Queue()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, signals.put_nowait, number)
    waiting = loop.create_task(signals.get())
    everything: set[asyncio.Task[Any]] = {keeping, guarding, watching, waiting}
    try:
        done, _ = await asyncio.wait(everything, return_when=asyncio.FIRST_COMPLETED)
        if watching not in done:
            for failed in done & {keeping, guarding}:
                await failed
            where = [describe(await service.task(task))]
            where += _reasons(await service.failures(task), state / "outputs")
            raise _InterruptedJobError(waiting.result(), "\n".join(where))
        return watching.result()
    finally:
        for one in everything:
            one.cancel()
        await asyncio.gather(*everything, return_exceptions=True)
