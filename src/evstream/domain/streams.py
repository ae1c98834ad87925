"""Output streams: what a payload leaves, by name, and how it is merged."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from evstream.domain.errors import LimitError, RequestError
from evstream.domain.outputs import check_stream_name
from evstream.domain.payload import (
    PLACEHOLDERS,
    Payload,
    check_merge_command,
    placeholders_in,
    split_payload,
)

MERGEABLE_SUFFIXES = (
    ".root",
    ".parquet",
    ".pq",
    ".h5",
    ".hdf5",
    ".lhe",
    ".lhe.gz",
    ".hepmc",
    ".hepmc.gz",
    ".hepmc2",
    ".hepmc3",
    ".hepmc2.gz",
    ".hepmc3.gz",
)
"""Of formats that can be joined; a test compares them with the formats' own."""
OUTPUT_STREAM = "output"
OUTPUT_VARIABLE = "EVSTREAM_OUTPUT_"
"""Of the environment: with the stream's name behind it, where its file is to be."""
SUFFIX_CHARS_MAX = 32
"""With the rest of an output's name it must fit into a file's, 255 bytes."""
PATTERN_CHARS_MAX = 200
TARGET_MAX = 1 << 50
STREAMS_MAX = 100
FILES_PER_STREAM_MAX = 1000
"""Files that one unit leaves for one stream."""


Complete = Literal["settled", "closed"]
"""How one knows that a file is complete while its payload still runs."""


class Merge(Struct, frozen=True, forbid_unknown_fields=True):
    """How outputs of a stream are joined, in entry order.

    Attributes
    ----------
    by : {"all", "bytes", "events", "file"}
        Where a merged file ends: never before the last output, when it has reached the
        target, or with each input file.
    target : int
        For "bytes", of the outputs together; for "events", entries of the task's tree in
        them, or of their largest one. Reached or passed by the last output of a file.
    command : str
        Command line that joins ``{inputs}`` into ``{output}``; empty for the join that is
        built in for the format.
    """

    by: Literal["all", "bytes", "events", "file"] = "all"
    target: int = 0
    command: str = ""

    def check(self, suffix: str) -> None:
        """Refuse what cannot work for outputs of a suffix.

        Raises
        ------
        LimitError, RequestError
        """
        wants_target = self.by in ("bytes", "events")
        if wants_target != (self.target > 0) or self.target > TARGET_MAX:
            raise LimitError(
                f"the target of merges by {self.by} is {self.target}",
                hint=f"give 1 to {TARGET_MAX} with 'bytes' and 'events', none with others",
                field="outputs.merge.target",
            )
        if self.command:
            check_merge_command(self.command)
        elif suffix not in MERGEABLE_SUFFIXES:
            raise RequestError(
                f"outputs in {suffix} cannot be merged",
                hint="leave --merge out, give a --merge-command, or write "
                f"{', '.join(MERGEABLE_SUFFIXES)}",
                field="outputs.merge",
            )


class OutputStream(Struct, frozen=True, forbid_unknown_fields=True):
    """One kind of output that every unit leaves.

    Attributes
    ----------
    suffix : str
        Of the file's name; it says in which format it is.
    pattern : str
        Glob of the files that belong to the stream, in the unit's directory: any number
        of them, in the order of their names. Empty if the payload is told the name of
        the one file, as ``{output:NAME}``.
    optional : bool
        A unit may leave nothing for it.
    entries : {"any", "as input"}
        How many entries a unit's files must have together: "as input" for as many as
        the unit has events, in the task's tree or else in the only one.
    complete : {"settled", "closed"}
        Which files may be sent while the payload runs. "settled": of a stream with a
        pattern, those that came to their names by a rename, or that nobody has touched
        for a while. "closed": those that no process has open for writing any more, also
        the one that is named to the payload.
    merge : bool or Merge
        Whether the units' outputs are joined in entry order, and into which files; true
        stands for one.
    """

    name: str = OUTPUT_STREAM
    suffix: str = ".root"
    pattern: str = ""
    optional: bool = False
    entries: Literal["any", "as input"] = "any"
    complete: Complete = "settled"
    merge: bool | Merge = False

    @property
    def merging(self) -> Merge | None:
        """How it is merged, if it is."""
        if isinstance(self.merge, Merge):
            return self.merge
        return Merge() if self.merge else None

    def check(self) -> None:
        """Refuse what cannot work, naming the field.

        Raises
        ------
        LimitError, RequestError
        """
        check_stream_name(self.name)
        self._check_files()
        if self.entries != "any" and self.suffix not in MERGEABLE_SUFFIXES:
            raise RequestError(
                f"entries of outputs in {self.suffix} cannot be counted",
                hint=f"leave entries out, or write {', '.join(MERGEABLE_SUFFIXES)}",
                field="outputs.entries",
            )
        if self.merging is not None:
            self.merging.check(self.suffix)

    def _check_files(self) -> None:
        for name, chars_max in (("suffix", SUFFIX_CHARS_MAX), ("pattern", PATTERN_CHARS_MAX)):
            value = getattr(self, name)
            if len(value) > chars_max:
                raise LimitError(
                    f"the output {name} has {len(value)} characters",
                    hint=f"give one of at most {chars_max}, such as .root or hist_*.root",
                    field=f"outputs.{name}",
                )
        if not re.fullmatch(r"(\.[A-Za-z0-9]+)+", self.suffix):
            raise RequestError(
                f"output suffix {self.suffix!r} is not one",
                hint="give one such as .root or .txt",
                field="outputs.suffix",
            )
        if "/" in self.pattern or (self.pattern and not self.pattern.endswith(self.suffix)):
            raise RequestError(
                f"output pattern {self.pattern!r} does not name files that end in {self.suffix}",
                hint="give a glob of file names without a folder, such as hist_*.root, "
                "and the suffix that they end in",
                field="outputs.pattern",
            )


def check_streams(streams: Sequence[OutputStream]) -> None:
    """Refuse streams that cannot work, alone or together.

    Raises
    ------
    LimitError, RequestError
    """
    if not 1 <= len(streams) <= STREAMS_MAX:
        raise LimitError(
            f"the task has {len(streams)} output streams",
            hint=f"give it from 1 to {STREAMS_MAX}",
            field="outputs",
        )
    names: set[str] = set()
    for stream in streams:
        stream.check()
        # Both the environment's variables and files must tell them apart.
        folded = variable_of(stream.name)
        if folded in names:
            raise RequestError(
                f"two output streams are called {stream.name!r}, or almost so",
                hint="give names that differ in more than case and punctuation",
                field="outputs.name",
            )
        names.add(folded)


def check_outputs_named(streams: Sequence[OutputStream], payload: Payload) -> None:
    """Refuse a command that names outputs which the task does not have.

    Raises
    ------
    RequestError
    """
    if payload.kind != "command":
        return
    known = {stream.name for stream in streams if not stream.pattern}
    for found in (found for word in split_payload(payload) for found in placeholders_in(word)):
        kind, colon, name = found.partition(":")
        if kind == "output" and colon and name not in known:
            raise RequestError(
                f"the payload names {{{found}}}, and the task has no such output file",
                hint=f"it has {', '.join(sorted(known)) or 'none'}; --stream NAME=SUFFIX adds one",
                field="payload.command",
            )
        if colon and kind in PLACEHOLDERS and kind not in ("output", "secondary"):
            raise RequestError(
                f"the payload names {{{found}}}, and {{{kind}}} is one",
                hint=f"write {{{kind}}}",
                field="payload.command",
            )


def unnamed_outputs(streams: Sequence[OutputStream], payload: Payload) -> list[str]:
    """Return the further streams that a command line must leave and says nothing of.

    The program may still know them from its environment.
    """
    if payload.kind != "command":
        return []
    return [
        stream.name
        for stream in streams[1:]
        if not (stream.pattern or stream.optional)
        and f"{{output:{stream.name}}}" not in payload.command
        and f"{OUTPUT_VARIABLE}{variable_of(stream.name)}" not in payload.command
    ]


def variable_of(stream: str) -> str:
    """Return the end of the environment variable that holds a stream's file."""
    return re.sub(r"[^A-Z0-9]", "_", stream.upper())
