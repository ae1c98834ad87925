"""What `run` and `submit` have in common: the flags that describe a task."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from msgspec.structs import replace

from evstream.cli.secondary_options import secondary_inputs
from evstream.cli.stream_options import further_streams, merge_rule
from evstream.client.inputs import absolute_payload
from evstream.client.task_file import TaskFile, read_task_file
from evstream.domain.errors import RequestError
from evstream.domain.granularity import Granularity
from evstream.domain.payload import Payload, PayloadKind
from evstream.domain.task import Limits


@Parameter(name="*")
@dataclass(frozen=True)
class TaskOptions:
    """Flags that describe a task; each outweighs what a task file says."""

    payload: Annotated[
        str | None,
        Parameter(
            help="Command run once per event range, without a shell. {input} and {output} "
            "stand for its files, {entry_start}, {entry_stop} and {range_id} for the range. "
            "See --payload-kind for others."
        ),
    ] = None
    payload_kind: Annotated[
        PayloadKind | None,
        Parameter(
            help="A command per range; a long-lived process that is given ranges; or a "
            "callable, module:function or file.py:function. Default command."
        ),
    ] = None
    arrays: Annotated[
        bool | None,
        Parameter(negative="", help="Give a callable its events as an awkward array."),
    ] = None
    task_file: Annotated[
        Path | None,
        Parameter(help="YAML with the task in it; 'evstream task init' writes one."),
    ] = None
    tree: Annotated[str, Parameter(help="Tree to process, where there are several.")] = ""
    branches: Annotated[
        tuple[str, ...],
        Parameter(
            consume_multiple=True,
            negative="",
            help="Globs of the branches to deliver; default all.",
        ),
    ] = ()
    events_per_range: Annotated[
        int | None, Parameter(help="Events per range; 10 000 if nothing else is said.")
    ] = None
    bytes_per_range: Annotated[
        int | None, Parameter(help="Instead: bytes of the source per range, about.")
    ] = None
    seconds_per_range: Annotated[
        float | None,
        Parameter(help="Instead: wall seconds per range, about, by what events took so far."),
    ] = None
    merge: Annotated[
        bool | None,
        Parameter(negative="", help="Merge the outputs into one file, in entry order."),
    ] = None
    merge_bytes: Annotated[
        int | None, Parameter(help="Merge into files of about so many bytes.")
    ] = None
    merge_events: Annotated[
        int | None, Parameter(help="Merge into files of about so many events.")
    ] = None
    merge_files: Annotated[
        bool | None, Parameter(negative="", help="Merge into one file for each input file.")
    ] = None
    merge_command: Annotated[
        str,
        Parameter(help="Command that merges, as in 'hadd {output} {inputs}'; default built in."),
    ] = ""
    output_suffix: Annotated[
        str | None, Parameter(help="Suffix of the payload's output; default .root.")
    ] = None
    stream: Annotated[
        tuple[str, ...],
        Parameter(
            negative="",
            help="A further output stream, as NAME=SUFFIX for the file that {output:NAME} names, "
            "or NAME=GLOB for the files in the payload's working directory that match.",
        ),
    ] = ()
    secondary: Annotated[
        tuple[str, ...],
        Parameter(
            negative="",
            help="Events of another dataset for each range, such as pile-up, as "
            "NAME=INPUT,per_event=K: a registered dataset, or files; {secondary:NAME} in the "
            "command. May also say tree= and offset=.",
        ),
    ] = ()
    bundle_bytes: Annotated[
        int | None,
        Parameter(
            help="Store outputs of units that leave no more bytes together with others, as one "
            "object; default 0, each by itself."
        ),
    ] = None
    ranges_per_file: Annotated[
        int | None,
        Parameter(help="Ranges that a long-lived payload writes into one file; default 1."),
    ] = None
    payload_s_max: Annotated[
        float | None,
        Parameter(help="Wall seconds after which a payload counts as hung; default 3600."),
    ] = None
    payload_start_s_max: Annotated[
        float | None,
        Parameter(help="Wall seconds until a long-lived payload is ready; default 3600."),
    ] = None
    payload_memory_bytes_max: Annotated[
        int | None, Parameter(help="Memory of a unit's processes; default no limit.")
    ] = None
    payload_disk_bytes_max: Annotated[
        int | None, Parameter(help="Disk of a unit, its input included; default no limit.")
    ] = None
    payload_env: Annotated[
        tuple[str, ...],
        Parameter(
            consume_multiple=True, negative="", help="Variables of its environment: NAME=VALUE."
        ),
    ] = ()
    sandbox: Annotated[
        str,
        Parameter(help="Folder or .tar.gz with the payload's code; {sandbox} in the command."),
    ] = ""
    container: Annotated[
        str | None, Parameter(help="Image that the payload runs in, by Apptainer.")
    ] = None
    failures_max: Annotated[
        int | None, Parameter(help="Failures after which a range is set aside; default 3.")
    ] = None
    losses_max: Annotated[
        int | None,
        Parameter(help="Workers lost while they ran a range before it is set aside; default 30."),
    ] = None
    bisections_max: Annotated[
        int | None,
        Parameter(help="Bisections to find the events that fail; default 10 for each range."),
    ] = None
    give_up_after: Annotated[
        int | None,
        Parameter(help="Failures without one commit after which the task fails; default 100."),
    ] = None
    node_failures_max: Annotated[
        int | None,
        Parameter(
            help="Attempts on a range that fail by their nodes until the task pauses; default 100."
        ),
    ] = None
    set_aside_max: Annotated[
        float | None,
        Parameter(help="Fraction of events set aside above which the task fails; default 1."),
    ] = None
    queue: Annotated[
        str | None, Parameter(help="Queue whose share of the workers it has; default 'default'.")
    ] = None
    priority: Annotated[
        int | None,
        Parameter(help="Priority within its queue; higher ones come first; default 0."),
    ] = None
    name: Annotated[str, Parameter(help="Name of the task; default from the payload.")] = ""

    def describe(self, inputs: list[str], dataset: str) -> TaskFile:
        """Return the whole description: the task file's, with what flags say in its place.

        Raises
        ------
        RequestError
            No payload is given, or the task file is none.
        """
        if self.task_file is not None:
            base = read_task_file(self.task_file)
        elif self.payload is not None:
            base = TaskFile(Payload(self.payload, kind=self.payload_kind or "command"))
        else:
            raise RequestError("no payload is given", hint="give --payload or --task-file")
        sizes = (self.events_per_range, self.bytes_per_range, self.seconds_per_range)
        given: dict[str, Any] = {
            "inputs": inputs,
            "dataset": dataset,
            "name": self.name,
            "tree": self.tree,
            "branches": list(self.branches),
            "secondary": secondary_inputs(self.secondary),
            "sandbox": self.sandbox,
        }
        given = {name: value for name, value in given.items() if value}
        if self.bundle_bytes is not None:
            given["bundle_bytes"] = self.bundle_bytes
        if sizes != (None, None, None):
            given["granularity"] = Granularity(*sizes)
        payload = _with(
            base.payload,
            command=self.payload,
            kind=self.payload_kind,
            arrays=self.arrays,
            wall_s_max=self.payload_s_max,
            start_s_max=self.payload_start_s_max,
            memory_bytes_max=self.payload_memory_bytes_max,
            disk_bytes_max=self.payload_disk_bytes_max,
            container=self.container,
            ranges_per_file=self.ranges_per_file,
            environment=_variables(base.payload.environment, self.payload_env),
        )
        first, *rest = base.outputs or TaskFile.outputs
        rule = merge_rule(
            self.merge, self.merge_bytes, self.merge_events, self.merge_files, self.merge_command
        )
        first = _with(first, suffix=self.output_suffix, merge=rule)
        return replace(
            base,
            payload=absolute_payload(payload) if self.payload is not None else payload,
            outputs=(first, *rest, *further_streams(self.stream, merge=first.merge)),
            limits=self._limits(base.limits),
            scheduling=_with(base.scheduling, queue=self.queue, priority=self.priority),
            **given,
        )

    def _limits(self, base: Limits) -> Limits:
        limits: Limits = _with(
            base,
            failures_max=self.failures_max,
            losses_max=self.losses_max,
            bisections_max=self.bisections_max,
            give_up_after=self.give_up_after,
            node_failures_max=self.node_failures_max,
            set_aside_max=self.set_aside_max,
        )
        return limits


def _variables(base: dict[str, str], given: tuple[str, ...]) -> dict[str, str]:
    """Return an environment with the variables that flags give.

    Raises
    ------
    RequestError
        One has no value.
    """
    pairs = [text.partition("=") for text in given]
    for name, equals, _ in pairs:
        if not equals:
            raise RequestError(f"--payload-env {name} has no value", hint="give NAME=VALUE")
    return base | {name: value for name, _, value in pairs}


def _with(part: Any, **flags: Any) -> Any:
    """Return a part of a task with what flags say in its place."""
    return replace(part, **{name: value for name, value in flags.items() if value is not None})


DEFAULT_OPTIONS = TaskOptions()
