"""Task files: everything that describes a task, in YAML."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Iterator
from importlib.resources import files
from inspect import cleandoc
from pathlib import Path
from typing import Any

import msgspec

from evstream.client.inputs import absolute_path, absolute_payload
from evstream.domain.errors import AccessError, LimitError, NotFoundError, RequestError
from evstream.domain.granularity import Granularity
from evstream.domain.outputs import check_bundle_bytes
from evstream.domain.payload import Payload, split_payload
from evstream.domain.scheduling import Scheduling
from evstream.domain.secondary import Secondary
from evstream.domain.streams import OutputStream
from evstream.domain.task import Limits, TakenOutputs
from evstream.wire.messages import Message, NewTask

TASK_FILE_BYTES_MAX = 1 << 20
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")


class SecondaryInputs(Message, frozen=True):
    """A dataset whose events ranges get beside their own, such as pile-up.

    Attributes
    ----------
    inputs : list of str
        As those of the task.
    dataset : str
        Which dataset of a coffea fileset.
    per_event : float
        Of its events, how many come for each event of the task.
    offset : int
        Where in it the task's first event begins to take.
    """

    name: str
    inputs: list[str]
    dataset: str = ""
    per_event: float = 1.0
    tree: str = ""
    branches: list[str] = []
    offset: int = 0

    def of(self, dataset: str) -> Secondary:
        """Return what a task says of it, its inputs being a registered dataset."""
        return Secondary(
            name=self.name,
            dataset=dataset,
            per_event=self.per_event,
            tree=self.tree,
            branches=tuple(self.branches),
            offset=self.offset,
        )


class TaskFile(Message, frozen=True):
    """What a task file holds: the parts of a request, and its inputs.

    Attributes
    ----------
    inputs : list of str
        A registered dataset, or files, folders, globs and URLs; paths count from the
        task file's folder.
    dataset : str
        Which dataset of a coffea fileset.
    takes : tuple of TakenOutputs
        Instead of inputs: tasks whose outputs are taken as they are committed.
    bundle_bytes : int
        Outputs of a unit that have no more together are stored with others as one object.
    sandbox : str
        A folder with the payload's code, or a .tar.gz of one; sent along.
    """

    payload: Payload
    inputs: list[str] = []
    dataset: str = ""
    name: str = ""
    tree: str = ""
    branches: list[str] = []
    granularity: Granularity = Granularity()
    outputs: tuple[OutputStream, ...] = (OutputStream(),)
    limits: Limits = Limits()
    scheduling: Scheduling = Scheduling()
    secondary: list[SecondaryInputs] = []
    sandbox: str = ""
    takes: tuple[TakenOutputs, ...] = ()
    bundle_bytes: int = 0

    def placed(self, folder: Path) -> TaskFile:
        """Return it with the paths in it counted from a folder."""
        return msgspec.structs.replace(
            self,
            inputs=[_placed_input(text, folder) for text in self.inputs],
            secondary=[
                msgspec.structs.replace(
                    one, inputs=[_placed_input(text, folder) for text in one.inputs]
                )
                for one in self.secondary
            ],
            payload=_placed_payload(self.payload, folder),
            outputs=tuple(_placed_stream(stream, folder) for stream in self.outputs),
            sandbox=str(folder / Path(self.sandbox).expanduser()) if self.sandbox else "",
        )

    def checks(self) -> Iterator[tuple[str, Callable[[], object]]]:
        """Yield what refuses parts that cannot work, whatever the dataset, and where these are."""
        yield "granularity", self.granularity.check
        for index, file in enumerate(self.payload.files):
            yield f"payload.files[{index}]", file.check
        yield "payload", self.payload.check
        yield "limits", self.limits.check
        yield "bundle_bytes", lambda: check_bundle_bytes(self.bundle_bytes)
        yield "scheduling", self.scheduling.check
        for index, stream in enumerate(self.outputs):
            yield f"outputs[{index}]", stream.check
        for index, one in enumerate(self.secondary):
            yield f"secondary[{index}]", one.of("").check

    def request(self, dataset: str, tree: str) -> NewTask:
        """Return the request for a task on a registered dataset, or on what it takes.

        Parameters
        ----------
        tree : str
            That the inputs name; what the file says counts first.

        Raises
        ------
        RequestError, LimitError
            Something cannot work, whatever the dataset.
        """
        # A number that is none would not even get to the service: JSON has no word for it.
        for _, check in self.checks():
            check()
        words = split_payload(self.payload)
        return NewTask(
            name=self.name or words[0].rsplit("/", 1)[-1],
            dataset=dataset,
            payload=self.payload,
            tree=self.tree or tree,
            branches=self.branches,
            granularity=self.granularity,
            outputs=self.outputs,
            limits=self.limits,
            scheduling=self.scheduling,
            takes=self.takes,
            bundle_bytes=self.bundle_bytes,
        )


def _placed_input(text: str, folder: Path) -> str:
    # What is no path from here may be a dataset's name.
    path = folder / Path(text).expanduser()
    there = "://" not in text and (path.exists() or glob.has_magic(text))
    return str(path) if there else text


def _placed_payload(payload: Payload, folder: Path) -> Payload:
    staged = tuple(
        file
        if "://" in file.pfn or not file.pfn
        else msgspec.structs.replace(file, pfn=absolute_path(folder / Path(file.pfn).expanduser()))
        for file in payload.files
    )
    return msgspec.structs.replace(absolute_payload(payload, folder), files=staged)


def _placed_stream(stream: OutputStream, folder: Path) -> OutputStream:
    rule = stream.merging
    if rule is None or not rule.command:
        return stream
    command = absolute_payload(Payload(rule.command), folder).command
    return msgspec.structs.replace(stream, merge=msgspec.structs.replace(rule, command=command))


def read_task_file(path: Path) -> TaskFile:
    """Read a task file.

    Raises
    ------
    RequestError
        It is no YAML, or no task; with line and column.
    NotFoundError, AccessError
    """
    try:
        content = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise NotFoundError(
            f"there is no file {path}", hint="write one with 'evstream task init'"
        ) from error
    except OSError as error:
        raise AccessError(f"{path} may not be read: {error.strerror}") from error
    if len(content) > TASK_FILE_BYTES_MAX:
        raise LimitError(
            f"{path} has {len(content)} bytes",
            hint=f"task files have {TASK_FILE_BYTES_MAX} at most",
        )
    from ruamel.yaml import YAML  # Costs time that only task files need.
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        # Plain values to check, and the same once more with the places where they stand.
        plain = YAML(typ="safe", pure=True).load(content)
        placed = YAML(typ="rt", pure=True).load(content)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise RequestError(
            f"{where}: {error.problem or error.context}", hint="see 'evstream task init'"
        ) from error
    except (YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise RequestError(f"{path}: {error}", hint="see 'evstream task init'") from error
    try:
        task = msgspec.convert(plain, TaskFile).placed(path.absolute().parent)
    except (msgspec.ValidationError, RecursionError) as error:
        what, _, at = str(error).partition(" - at ")
        line, column = _place(placed, at.strip("`"), what)
        field = at.strip("`").removeprefix("$").removeprefix(".")
        raise RequestError(
            f"{path}:{line}:{column}: {f'{field}: ' if field else ''}{what[:1].lower()}{what[1:]}",
            hint="see 'evstream task init', which writes a file with every field",
        ) from error
    _check_parts(task, placed, path)
    return task


def _check_parts(task: TaskFile, placed: Any, path: Path) -> None:
    """Refuse parts that cannot work, with the place where they are written."""
    if "kind" not in placed["payload"]:
        # A flag may say it, and so that this fits.
        payload = msgspec.structs.replace(task.payload, arrays=False, ranges_per_file=1)
        task = msgspec.structs.replace(task, payload=payload)
    for part, check in task.checks():
        try:
            check()
        except RequestError as error:
            # The error names a field without the numbers of lists, such as outputs.merge.by.
            names = str(error.fields.get("field", "")).split(".")[part.count(".") + 1 :]
            line, column = _place(placed, ".".join(["$", part, *names]), error.message)
            message = f"{path}:{line}:{column}: {error.message}"
            raise type(error)(message, hint=error.hint, **error.fields) from error


def template() -> str:
    """Return a task file with every field, commented."""
    return (files("evstream.client") / "task_template.yaml").read_text(encoding="utf-8")


def schema() -> dict[str, Any]:
    """Return the JSON schema of task files."""
    made = msgspec.json.schema(TaskFile)
    for part in made["$defs"].values():
        # Python strips the indentation of docstrings since 3.13.
        part["description"] = cleandoc(part["description"])
    return made


def _place(node: Any, path: str, what: str) -> tuple[int, int]:
    """Return line and column, from 1, of what a message of msgspec is about.

    Parameters
    ----------
    path : str
        Such as ``$.outputs[0].merge``; empty for the whole.
    what : str
        The message; an unknown field is named in it, not in the path.
    """
    line, column = 0, 0
    for name, index in _STEP.findall(path):
        key: Any = int(index) if index else name
        try:
            line, column = node.lc.item(key) if index else node.lc.value(key)
            node = node[key]
        except (AttributeError, KeyError, IndexError, TypeError):
            return line + 1, column + 1
    unknown = re.search(r"unknown field `(.*)`", what)
    if unknown and hasattr(node, "lc"):
        line, column = node.lc.key(unknown[1])
    return line + 1, column + 1
