"""What `run` and `submit` have in common: the flags that describe a task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from evstream.client.inputs import absolute_words
from evstream.domain.granularity import Granularity
from evstream.domain.payload import Payload, split_command
from evstream.domain.streams import OutputStream
from evstream.domain.task import Limits
from evstream.wire.messages import NewTask


@Parameter(name="*")
@dataclass(frozen=True)
class TaskOptions:
    """Flags that describe a task."""

    payload: Annotated[
        str,
        Parameter(
            help="Command run once per event range, without a shell. {input} and {output} "
            "stand for its files, {entry_start}, {entry_stop} and {range_id} for the range."
        ),
    ]
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
        bool,
        Parameter(negative="", help="Merge the outputs into one file, in entry order."),
    ] = False
    output_suffix: Annotated[str, Parameter(help="Suffix of the payload's output.")] = ".root"
    payload_s_max: Annotated[
        float, Parameter(help="Wall seconds after which a payload counts as hung.")
    ] = 3600.0
    failures_max: Annotated[int, Parameter(help="Failures after which a range is set aside.")] = 3
    losses_max: Annotated[
        int, Parameter(help="Workers lost while they ran a range before it is set aside.")
    ] = 30
    name: Annotated[str, Parameter(help="Name of the task; default from the payload.")] = ""

    def new_task(self, dataset: str, tree: str) -> NewTask:
        """Return the request for a task on a registered dataset.

        Raises
        ------
        RequestError, LimitError
            A flag cannot work, whatever the dataset.
        """
        granularity = Granularity(
            self.events_per_range, self.bytes_per_range, self.seconds_per_range
        )
        granularity.check()
        words = split_command(self.payload)
        payload = Payload(absolute_words(self.payload), self.payload_s_max)
        payload.check()
        return NewTask(
            name=self.name or words[0].rsplit("/", 1)[-1],
            dataset=dataset,
            payload=payload,
            tree=self.tree or tree,
            branches=list(self.branches),
            granularity=granularity,
            outputs=(OutputStream(suffix=self.output_suffix, merge=self.merge),),
            limits=Limits(self.failures_max, self.losses_max),
        )
