"""Payloads of each kind by whole commands: with a sandbox, and in a container."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

import pytest
import uproot

from evstream.client.sandbox import pack_sandbox
from tests.spine.commands import CommandLine, write_events

pytestmark = pytest.mark.server

COPY = """
import os, shutil
from settings import SUFFIX

def copy(unit):
    assert SUFFIX == ".root"
    shutil.copyfile(unit.input, unit.output)
"""
LONG_LIVED = """
import os
from evstream.payload import serve
from code_of_ours import copy

def process(unit):
    print(os.environ.get("GREETING"), os.getcwd())
    copy(unit)

if __name__ == "__main__":
    serve(process)
"""
# What the program does that we need of it: run words with the image's PATH, not with ours,
# and a list of what it was asked.
APPTAINER = """#!/bin/sh
echo "$@" >> "$APPTAINER_LOG"
[ "$1" = exec ] && [ "$2" = --bind ] && [ "$4" = --pwd ] || exit 9
shift 6
PATH="${APPTAINERENV_PREPEND_PATH:+$APPTAINERENV_PREPEND_PATH:}$PATH_OF_IMAGE"
exec "$@"
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "settings.py").write_text('SUFFIX = ".root"\n')
    (folder / "code_of_ours.py").write_text(COPY)
    (folder / "program.py").write_text(LONG_LIVED)
    (folder / "mycopy").write_text('#!/bin/sh\nexec cp "$1" "$2"\n')
    (folder / "mycopy").chmod(0o755)
    return folder


def _check(tmp_path: Path, entries: int) -> None:
    with uproot.open(tmp_path / "out" / "merged.root") as file:
        assert file["Events"]["event"].array(library="np").tolist() == list(range(entries))


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("command", "mycopy {input} {output}"),
        ("command", "sh {sandbox}/mycopy {input} {output}"),
        ("long-lived", f"{sys.executable} {{sandbox}}/program.py"),
        ("callable", "code_of_ours:copy"),
    ],
)
def test_a_sandbox_goes_where_the_work_is(
    command: CommandLine, tmp_path: Path, code: Path, kind: str, payload: str
) -> None:
    write_events(tmp_path / "a.root", 200)
    words = ["run", "a.root", "--payload", payload, "--payload-kind", kind, "--sandbox", code]
    words += ["--events-per-range", 20, "--merge", "--workers", 2, "--output", "out"]
    command.run(*words)
    _check(tmp_path, 200)
    assert not list((tmp_path / "out" / ".evstream" / "work").glob("**/sandbox-*"))


def test_a_service_keeps_a_sandbox_by_its_digest(
    command: CommandLine, tmp_path: Path, code: Path
) -> None:
    write_events(tmp_path / "a.root", 100)
    data = tmp_path / "data"
    command.serve(data, "--port", "0")
    words = ["submit", "a.root", "--payload", "code_of_ours:copy", "--payload-kind", "callable"]
    words += ["--events-per-range", 20, "--merge", "--data", data]
    task = command.run(*words, "--sandbox", code).stdout.strip()
    command.run("pilot", "--data", data, "--cores", 2, env={"EVSTREAM_PILOT_IDLE_S_MAX": "0"})
    assert command.json("status", task, "--data", data)["state"] == "done"
    sha256 = pack_sandbox(code, tmp_path / "again.tar.gz")
    assert (data / "outputs" / "sandboxes" / f"{sha256}.tar.gz").exists()
    task_file = {"payload": {"command": "x:y", "kind": "callable", "sandbox": "0" * 64}}
    (tmp_path / "task.yaml").write_text(json.dumps(task_file))
    refused = command.run("submit", "a.root", "--task-file", "task.yaml", "--data", data, status=2)
    assert "there is no sandbox 000" in refused.stderr


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("command", "mycopy {input} {output}"),
        ("command", "sh {sandbox}/mycopy {input} {output}"),
        ("long-lived", f"{sys.executable} {{sandbox}}/program.py"),
        ("callable", "code_of_ours:copy"),
    ],
)
def test_a_payload_runs_in_a_container(
    command: CommandLine, tmp_path: Path, code: Path, kind: str, payload: str
) -> None:
    write_events(tmp_path / "a.root", 60)
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "apptainer").write_text(APPTAINER)
    (programs / "apptainer").chmod(0o755)
    words = ["run", "a.root", "--payload", payload, "--payload-kind", kind, "--sandbox", code]
    words += ["--container", "/images/analysis.sif", "--payload-env", "GREETING=hello"]
    words += ["--events-per-range", 20, "--merge", "--workers", 1, "--output", "out"]
    path = f"{programs}:{os.environ['PATH']}"
    log = tmp_path / "apptainer.log"
    image = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    env = {"PATH": path, "APPTAINER_LOG": str(log), "PATH_OF_IMAGE": image}
    command.run(*words, env=env)
    _check(tmp_path, 60)
    assert "/images/analysis.sif" in log.read_text()


def test_a_node_without_containers_says_so(command: CommandLine, tmp_path: Path) -> None:
    write_events(tmp_path / "a.root", 20)
    words = ["run", "a.root", "--payload", "cp {input} {output}", "--container", "image.sif"]
    done = command.run(
        *words, "--output", "out", status=None, env={"PATH": "/usr/sbin:/sbin:/nowhere"}
    )
    assert done.returncode != 0
    assert "no Apptainer" in done.stderr + done.stdout


def test_files_are_there_before_the_first_unit(command: CommandLine, tmp_path: Path) -> None:
    write_events(tmp_path / "a.root", 60)
    (tmp_path / "words.txt").write_text("beside the input\n")
    sha256 = hashlib.sha256(b"beside the input\n").hexdigest()
    staged = {"name": "w.txt", "pfn": str(tmp_path / "words.txt"), "sha256": sha256}
    shell = 'grep -q beside "$EVSTREAM_FILES/w.txt" {files}/w.txt && cp {input} {output}'
    payload = {"command": f"sh -c '{shell}'", "files": [staged]}
    (tmp_path / "task.yaml").write_text(json.dumps({"payload": payload}))
    words = ["run", "a.root", "--task-file", "task.yaml", "--events-per-range", 20, "--merge"]
    command.run(*words, "--output", "out")
    _check(tmp_path, 60)
    (tmp_path / "words.txt").write_text("something else\n")
    done = command.run(*words, "--output", "other", status=2)
    assert "words.txt has the sha256" in done.stderr
    assert not (tmp_path / "other" / "merged.root").exists()


def test_a_merge_command_is_in_the_sandbox(
    command: CommandLine, tmp_path: Path, code: Path
) -> None:
    write_events(tmp_path / "a.root", 60)
    (code / "join").write_text('#!/bin/sh\nout=$1; shift; cat "$@" > "$out"\n')
    (code / "join").chmod(0o755)
    words = ["run", "a.root", "--payload", "sh -c 'echo {entry_start} > {output}'"]
    words += ["--sandbox", code, "--merge", "--merge-command", "join {output} {inputs}"]
    words += ["--output-suffix", ".txt", "--events-per-range", 20, "--output", "out"]
    command.run(*words)
    assert (tmp_path / "out" / "merged.txt").read_text() == "0\n20\n40\n"
