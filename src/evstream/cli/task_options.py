"""What `run` and `submit` have in common: the flags that describe a task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from evstream.client.inputs import absolute_words
from evstream.domain.errors import LimitError
from evstream.domain.splitting import check_events_per_range
from evstream.domain.task import split_command
from evstream.wire.messages import NewTask

PAYLOAD_S_LONGEST = 31_536_000.0


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
    events_per_range: Annotated[int, Parameter(help="Granularity of the work.")] = 10_000
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
        check_events_per_range(self.events_per_range)
        words = split_command(self.payload)
        if not 0 < self.payload_s_max <= PAYLOAD_S_LONGEST:
            raise LimitError(
                f"--payload-s-max is {self.payload_s_max}",
                hint=f"give seconds above 0 and up to {PAYLOAD_S_LONGEST:.0f}",
            )
        return NewTask(
            name=self.name or words[0].rsplit("/", 1)[-1],
            dataset=dataset,
            payload=absolute_words(self.payload),
            tree=self.tree or tree,
            branches=list(self.branches),
            events_per_range=self.events_per_range,
            output_suffix=self.output_suffix,
            merge=self.merge,
            payload_s_max=self.payload_s_max,
            failures_max=self.failures_max,
            losses_max=self.losses_max,
        )
