"""Task files: read as they are meant, and refused with the place where they are wrong."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import msgspec
import pytest

from evstream.cli.task_file import init
from evstream.client.task_file import SecondaryInputs, TaskFile, read_task_file, schema, template
from evstream.domain.errors import ConflictError, LimitError, NotFoundError, RequestError
from evstream.domain.granularity import Granularity
from evstream.domain.payload import Payload
from evstream.domain.streams import Merge
from evstream.domain.task import Limits

SCHEMA = Path(__file__).parents[3] / "docs/reference/task-file.schema.json"
WHOLE = """
inputs: [data, user:zmumu, "root://host//x.root", here*.root]
name: skim
branches: [run, no, on]
payload:
  command: python skim.py {input} {output}
  wall_s_max: 7.5e+1
granularity: {seconds: 600}
outputs:
  - suffix: .parquet
    merge: true
limits: {failures_max: 5}
"""


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "task.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_file_is_read_whole_and_its_paths_count_from_its_folder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "skim.py").write_text("")
    task = read_task_file(write(tmp_path, WHOLE))
    near = [str(tmp_path / "data"), "user:zmumu", "root://host//x.root"]
    assert task.inputs == [*near, str(tmp_path / "here*.root")]
    assert task.branches == ["run", "no", "on"]
    assert shlex.split(task.payload.command)[1:] == [
        f"{tmp_path / 'skim.py'}",
        "{input}",
        "{output}",
    ]
    assert task.payload.wall_s_max == 75.0
    assert task.granularity == Granularity(seconds=600.0)
    request = task.request("user:x", "Events")
    assert (request.tree, request.name) == ("Events", "skim")
    assert (request.outputs[0].suffix, request.outputs[0].merge) == (".parquet", True)
    assert request.limits.failures_max == 5


def test_staged_files_count_from_the_folder_too(tmp_path: Path) -> None:
    text = "payload:\n  command: cp {input} {output}\n  files:\n"
    for name, pfn in (("a", "data/a.db"), ("b", "/cvmfs/b.db"), ("c", "root://host//c.db")):
        text += f"    - {{name: {name}, pfn: '{pfn}', sha256: {'a' * 64}}}\n"
    task = read_task_file(write(tmp_path, text))
    places = [str(tmp_path / "data/a.db"), "/cvmfs/b.db", "root://host//c.db"]
    assert [file.pfn for file in task.payload.files] == places
    task.request("user:x", "")


def test_files_in_merge_commands_count_from_the_folder_too(tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/join").write_text("")
    (tmp_path / "rules.txt").write_text("")
    text = """
payload: {command: "cp {input} {output}"}
outputs:
  - merge: {command: "tools/join rules.txt none.txt {output} {inputs}"}
  - {name: other, merge: {by: file}}
  - {name: last}
"""
    merges = [stream.merge for stream in read_task_file(write(tmp_path, text)).outputs]
    assert isinstance(merges[0], Merge)
    words = [str(tmp_path / "tools/join"), str(tmp_path / "rules.txt"), "none.txt"]
    assert shlex.split(merges[0].command) == [*words, "{output}", "{inputs}"]
    assert merges[1:] == [Merge("file"), False]


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("payload:\n  comand: cp\n", "2:3", "payload: object contains unknown field `comand`"),
        ("payload: {command: x}\nname: 3\n", "2:7", "name: expected `str`, got `int`"),
        ("payload: {command: x}\nbranches: [a,\n  7]\n", "3:3", "branches[1]: expected `str`"),
        ("payload:\n  command: x\n  wall_s_max: yes\n", "3:15", "expected `float`, got `str`"),
        ("payload: {command: x}\noutputs:\n- name: a\n  merg: true\n", "4:3", "unknown field"),
        ("name: x\n", "1:1", "missing required field `payload`"),
        ("- a\n", "1:1", "expected `object`, got `array`"),
        ("", "1:1", "expected `object`, got `null`"),
        ("payload: {command: x}\npayload: {command: y}\n", "2:1", "found duplicate key"),
        ("payload: [\n", "2:1", "expected the node content"),
        ("payload: {command: x}\nlimits:\n  set_aside_max: 1.5\n", "3:18", "set_aside_max is 1.5"),
        ("payload: {command: x}\nlimits:\n  set_aside_max: .nan\n", "3:18", "set_aside_max is nan"),
        ("payload: {command: x}\ngranularity: {events: 5, bytes: 7}\n", "2:14", "events and bytes"),
        ("payload: {command: x}\ngranularity:\n  seconds: -3\n", "3:12", "range is -3"),
        ("payload: {command: x}\ngranularity: {events: 0}\n", "2:14", "events per range is 0"),
        ("payload:\n  command: x\n  sandbox: abc\n", "3:12", "no sha256 of a sandbox"),
        ("payload:\n  command: x\n  wall_s_max: .inf\n", "3:15", "wall_s_max is inf"),
        (
            "payload:\n  command: x\n  files:\n  - {name: a, pfn: /a, sha256: abc}\n",
            "4:32",
            "'abc' is no sha256",
        ),
        (
            "payload: {command: x}\noutputs:\n- {}\n- name: b\n  suffix: txt\n",
            "5:11",
            "'txt' is not one",
        ),
        (
            "payload: {command: x}\noutputs:\n- name: a\n  merge:\n    by: bytes\n    target: 0\n",
            "6:13",
            "merges by bytes is 0",
        ),
        (
            "payload: {command: x}\nsecondary:\n- {name: a, inputs: [b], per_event: .nan}\n",
            "3:37",
            "is nan",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_place(
    text: str, place: str, what: str, tmp_path: Path
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(RequestError, match=re.escape(what)) as caught:
        read_task_file(path)
    assert caught.value.message.startswith(f"{path}:{place}: ")
    assert caught.value.hint


@pytest.mark.parametrize("content", [b"\xff\xfe\xfa", b"a: \x00", b"%YAML 9.9\n---\na: !!x y\n"])
def test_what_is_no_text_is_refused(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(RequestError):
        read_task_file(write(tmp_path, content))


def test_files_that_are_not_there_or_too_large_are_told(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no file"):
        read_task_file(tmp_path / "none.yaml")
    with pytest.raises(LimitError, match="bytes"):
        read_task_file(write(tmp_path, "#" * (1 << 21)))


def test_the_template_is_a_task_and_names_every_field(tmp_path: Path) -> None:
    assert read_task_file(write(tmp_path, template())).payload.command == "cp {input} {output}"
    said = set(re.findall(r"^[# -]*(\w+):", template(), re.MULTILINE))
    assert _fields(TaskFile) <= said
    # What is commented out is as good as what is not.
    opened = re.sub(r"^( *)# (?=\w+:(\s|$)|  )", r"\1", template(), flags=re.MULTILINE)
    opened = re.sub(r"^  (bytes|seconds):.*\n", "", opened, flags=re.MULTILINE)
    task = read_task_file(write(tmp_path, opened))
    defaults = TaskFile(task.payload)
    assert (task.outputs, task.limits) == (defaults.outputs, defaults.limits)
    assert task.granularity == Granularity(events=10_000)


def _fields(kind: type) -> set[str]:
    found: set[str] = set()
    for field in msgspec.structs.fields(kind):
        found.add(field.name)
        for part in (field.type, *getattr(field.type, "__args__", ())):
            if isinstance(part, type) and issubclass(part, msgspec.Struct):
                found |= _fields(part)
    return found


def test_the_schema_on_the_page_is_the_true_one() -> None:
    assert json.loads(SCHEMA.read_bytes()) == json.loads(json.dumps(schema()))


def test_a_template_replaces_nothing(tmp_path: Path) -> None:
    init(tmp_path / "new.yaml")
    with pytest.raises(ConflictError, match="is there"):
        init(tmp_path / "new.yaml")


def test_what_a_flag_may_still_say_is_not_refused_in_a_file(tmp_path: Path) -> None:
    task = read_task_file(write(tmp_path, "payload: {command: x, ranges_per_file: 4}\n"))
    with pytest.raises(RequestError, match="several ranges"):
        task.request("user:x", "")


def test_numbers_that_are_none_are_refused_before_anything_is_sent() -> None:
    nan = float("nan")
    payload = Payload("cp {input} {output}")
    for task in (
        TaskFile(payload, limits=Limits(set_aside_max=nan)),
        TaskFile(payload, secondary=[SecondaryInputs("a", ["b"], per_event=nan)]),
        TaskFile(payload, granularity=Granularity(seconds=nan)),
        TaskFile(Payload("cp {input} {output}", wall_s_max=nan)),
    ):
        with pytest.raises(LimitError, match=" is nan"):
            task.request("user:x", "")
