"""The pages themselves: links lead somewhere, and what is shown as runnable runs.

Code blocks say in their info string how they are run: nothing for a command or a script
that needs no service, ``server`` for those that start processes, ``by-hand`` for those that
no test can run, ``file=NAME`` for a file that the page's commands use.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

from evstream.cli.commands import app
from tests.docs.pages import (
    REFERENCE,
    REPOSITORY,
    Block,
    all_blocks,
    blocks,
    evstream_lines,
    pages,
    section,
    table,
)
from tests.ports import free_port
from tools.check_docs import faults_of

WAIT_S_MAX = 300.0
CONSOLE = all_blocks("console")
STORIES = [page for page in pages() if any("server" in b.words for b in blocks(page))]
ENTRIES = 800

# What a page takes for granted when its commands begin; `service` is served beside it.
BEFORE = {
    "commands.md": """
        evstream dataset add user:dimuons data/*.root --data service
        evstream submit user:dimuons --payload 'cp {input} {output}' --data service
        evstream pilot --data service
    """,
    "back-up.md": """
        evstream submit data --payload 'cp {input} {output}' --data service
    """,
    "kill-and-resume.md": """
        evstream submit data --payload 'cp {input} {output}' --data service
    """,
    "payloads.md": """
        evstream dataset add user:first data/a.root --data service
    """,
    "failures-and-logs.md": """
        evstream run data/*.root --payload 'cp {input} {output}' --output results
        evstream dataset add user:first data/*.root --data service
        evstream submit user:first --payload "sh -c 'echo bad; rm {output}'" --data service
        evstream pilot --data service
    """,
    "verify-a-receipt.md": """
        evstream run data --payload 'cp {input} {output}' --merge --output results
        mkdir archive && mv results/merged.root archive/run17.root
        cp results/receipt.json . && cp archive/run17.root results/renamed.root
    """,
}
FILESET = {
    "dimuons": {
        "files": {
            "data/a.root": {
                "object_path": "Events",
                "steps": [[0, 200], [400, 600]],
                "num_entries": ENTRIES,
            }
        },
        "metadata": {},
    }
}
# The other machine is this one.
SSH = """#!/bin/sh
case $1 in -f) exit 0 ;; esac
shift
exec "$@"
"""


def test_there_are_blocks_of_each_kind() -> None:
    marks = {mark for block in CONSOLE for mark in block.words[1:]}
    assert marks == {"server", "by-hand"}
    assert len(STORIES) > 5


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    assert list(faults_of(page, REPOSITORY)) == []


def test_targets_of_make_are_there() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    named = {
        word
        for page in pages()
        for word in re.findall(
            r"`?make ([a-z-]+)(?: [A-Z]+=\w+)*(?:`|$)", page.read_text("utf-8"), re.M
        )
    }
    assert len(named) > 5
    assert not [word for word in named if not re.search(rf"^{word}:", makefile, re.MULTILINE)]


@pytest.mark.parametrize("block", all_blocks("json"), ids=str)
def test_json_is_json(block: Block) -> None:
    json.loads(block.text)


@pytest.mark.parametrize("block", [b for b in all_blocks("python") if not b.file_name], ids=str)
def test_python_runs(block: Block, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", block.text],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", CONSOLE, ids=str)
def test_commands_are_spoken_right(block: Block) -> None:
    for words in evstream_lines(block):
        if "--help" not in words and "--version" not in words:
            app.parse_args(words, exit_on_error=False, print_error=False)


@pytest.mark.parametrize("block", [b for b in CONSOLE if len(b.words) == 1], ids=str)
def test_commands_without_a_service_run(block: Block, tmp_path: Path) -> None:
    _run(block.lines, tmp_path)


@pytest.mark.server
@pytest.mark.parametrize("page", STORIES, ids=lambda page: page.name)
def test_a_page_can_be_followed(page: Path, tmp_path: Path) -> None:
    _prepare(page, tmp_path)
    port = str(free_port())
    before = BEFORE.get(page.name, "")
    serves_itself = any(words[0] == "serve" for b in blocks(page) for words in evstream_lines(b))
    with _Services(tmp_path) as services:
        if "--data service" in before or not serves_itself:
            services.start("evstream serve --data service")
        _run(before.splitlines(), tmp_path)
        for block in blocks(page):
            if block.language == "console" and "server" in block.words:
                for line in block.lines:
                    if line.startswith("evstream serve"):
                        services.start(line.replace("8400", port))
                    else:
                        _run([line.replace("8400", port)], tmp_path)
        if page.name == "commands.md":
            _check_data_directory(tmp_path / "service")
        if page.name == "README.md":
            _check_receipt(tmp_path / "results" / "receipt.json")
            _check_data_directory(tmp_path / "results" / ".evstream")


def _check_receipt(path: Path) -> None:
    """Compare a receipt with the table that describes it."""
    receipt = json.loads(path.read_text())
    rows = table(section(REFERENCE / "receipt.md", "Format, version 1"), "field")
    assert set(receipt) == set(rows)
    nested = ["task", "counts", "signature"]
    parts = {name: receipt[name] for name in nested}
    parts |= {name: receipt[name][0] for name in ("files", "outputs")}
    for name, part in parts.items():
        for key in part:
            assert key in rows[name]["holds"].replace(",", " ").replace(";", " "), (name, key)
    assert receipt["outputs"][0]["file"] == "merged.root"


def _check_data_directory(folder: Path) -> None:
    """Compare a data directory with the table that describes it."""
    rows = table(section(REFERENCE / "files.md", "Data directory"), "path")
    documented = {
        name.strip(): row["mode"] for names, row in rows.items() for name in names.split(",")
    }
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    found = [path for path in folder.rglob("*") if path.parent.name in (folder.name, "keys")]
    assert len(found) > 5
    for path in found:
        name = path.relative_to(folder).as_posix() + ("/" if path.is_dir() else "")
        mode = documented[name]
        if mode.startswith("0"):
            assert stat.S_IMODE(path.stat().st_mode) == int(mode, 8), name


def _prepare(page: Path, folder: Path) -> None:
    """Leave what a page speaks of: events, its own files, the README's script, a fileset."""
    for number, name in enumerate("ab"):
        _write_events(folder / "data" / f"{name}.root", first=number * ENTRIES)
    for block in (*blocks(REPOSITORY / "README.md"), *blocks(page)):
        if block.file_name:
            (folder / block.file_name).write_text(block.text)
    (folder / "fileset.json").write_text(json.dumps(FILESET))
    programs = folder / ".bin"
    programs.mkdir()
    (programs / "ssh").write_text(SSH)
    (programs / "ssh").chmod(0o755)


def _write_events(path: Path, first: int) -> None:
    path.parent.mkdir(exist_ok=True)
    rng = np.random.default_rng(first)
    counts = rng.integers(0, 4, ENTRIES)
    with uproot.recreate(path) as file:
        file.mktree(
            "Events",
            {
                "run": np.ones(ENTRIES, np.uint32),
                "event": np.arange(first, first + ENTRIES, dtype=np.uint64),
                "Muon_pt": ak.unflatten(rng.random(counts.sum(), np.float32), counts),
            },
        )


def _environment(folder: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("EVSTREAM_")}
    programs = f"{folder / '.bin'}:{Path(sys.executable).parent}"
    return kept | {
        "PATH": f"{programs}:{kept.get('PATH', os.defpath)}",
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder / ".data"),
        "XDG_CONFIG_HOME": str(folder / ".config"),
        # A page's commands that name no service mean the one that runs beside it.
        "EVSTREAM_DATA_DIR": str(folder / "service"),
        "EVSTREAM_PILOT_IDLE_S_MAX": "0",
    }


def _run(lines: list[str], folder: Path) -> None:
    """Run lines as a person would type them; each must succeed."""
    for line in lines:
        if not line.strip():
            continue
        if line.strip().startswith("curl") and shutil.which("curl") is None:
            continue
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=folder,
            env=_environment(folder),
            capture_output=True,
            text=True,
            timeout=WAIT_S_MAX,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"


class _Services:
    """Services that a page starts; ended when the page is."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[subprocess.Popen[bytes]] = []
        self._lines: list[str] = []

    def __enter__(self) -> _Services:
        return self

    def start(self, line: str) -> None:
        """Start ``evstream serve …`` and wait until it listens; again is no error."""
        if line in self._lines:
            return
        self._lines.append(line)
        log = self._folder / f".serve{len(self._running)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {line}"],
                cwd=self._folder,
                env=_environment(self._folder),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self._running.append(process)
        pause = threading.Event()
        for _ in range(int(WAIT_S_MAX / 0.02)):
            if b"serves" in log.read_bytes():
                return
            assert process.poll() is None, log.read_text()
            pause.wait(0.02)
        raise AssertionError(f"{line}: does not listen")

    def __exit__(self, *error: object) -> None:
        for process in self._running:
            process.terminate()
        for process in self._running:
            process.wait(timeout=WAIT_S_MAX)
