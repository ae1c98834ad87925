"""Builders that are killed at any instant leave an index of whole files, and the next goes on."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np

from evstream.domain.errors import NotFoundError
from evstream.eventindex import EventIndex, EventKeys
from evstream.eventindex.manifest import MANIFEST_NAME
from tests.unit.eventindex.test_extraction import some_files

WAIT_S_MAX = 120.0
FILES, EVENTS, KILLS = 40, 50, 6
BUILDER = """
import sys
import numpy as np
from pathlib import Path
from evstream.eventindex import EventIndex, IndexedFile, open_builder

files, events = int(sys.argv[2]), int(sys.argv[3])
with open_builder(Path(sys.argv[1]), 1) as builder:
    print("begun", flush=True)
    for number in range(files):
        numbers = np.arange(number * events, (number + 1) * events)
        file = IndexedFile(0, f"{number}.root", "", (f"/{number}.root",), "root", 1, "",
                           f"digest {number}", "Events", events, ("run", "event"))
        if builder.has(file):
            continue
        builder.add(file, np.full(events, 3), np.full(events, 5), numbers)
        print(number, flush=True)
    builder.compact()
"""


def test_killed_builds_leave_whole_files(tmp_path: Path, rng: random.Random) -> None:
    words = [sys.executable, "-c", BUILDER, str(tmp_path), str(FILES), str(EVENTS)]
    for _ in range(KILLS):
        builder = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert builder.stdout is not None
        with builder, builder.stdout:
            # It goes on while we read: the kill falls anywhere within a later file.
            for _ in range(rng.randrange(1, 9)):
                builder.stdout.readline()
            spin(rng.randrange(200_000))
            builder.kill()
        check_whole(tmp_path)
    subprocess.run(words, stdout=subprocess.DEVNULL, check=True)
    index = check_whole(tmp_path)
    assert index is not None
    assert len(index) == FILES * EVENTS
    assert len(index.segments) == 1
    assert not [p for p in tmp_path.iterdir() if p.name.endswith(".partial")]


READER = """
import multiprocessing, sys
from pathlib import Path
from evstream.assembly import make_readers
from evstream.eventindex.extraction import WantedFile, extract_all

wanted = [WantedFile(str(path)) for path in sorted(Path(sys.argv[1]).iterdir())]
results = extract_all(make_readers, wanted, frozenset(), 2)
next(results)
print(*(child.pid for child in multiprocessing.active_children()), flush=True)
sys.stdin.readline()
print(1 + sum(1 for _ in results))
"""


def test_processes_that_read_files_leave_with_a_killed_builder(tmp_path: Path) -> None:
    some_files(tmp_path, 9)
    words = [sys.executable, "-c", READER, str(tmp_path)]
    builder = subprocess.Popen(words, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    with builder:
        assert builder.stdout is not None
        children = list(map(int, builder.stdout.readline().split()))
        builder.kill()
    assert children
    pause = threading.Event()
    for _ in range(int(WAIT_S_MAX / 0.05)):
        if not any(map(runs, children)):
            return
        pause.wait(0.05)
    raise AssertionError(f"{children} still run")


def test_processes_that_read_files_are_interrupted_by_nobody(tmp_path: Path) -> None:
    """A terminal interrupts all of its processes; the builder alone decides."""
    some_files(tmp_path, 9)
    words = [sys.executable, "-c", READER, str(tmp_path)]
    with subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as builder:
        assert builder.stdout is not None
        for child in map(int, builder.stdout.readline().split()):
            os.kill(child, signal.SIGINT)
        told, errors = builder.communicate("go on\n", timeout=WAIT_S_MAX)
    assert (told, errors) == ("9\n", "")


UPDATER = """
import signal, sys
from pathlib import Path
from evstream.assembly import make_readers
from evstream.eventindex import WantedFile, update_index

def tell(*_):
    print("interrupted", flush=True)
    raise KeyboardInterrupt

signal.signal(signal.SIGINT, tell)
folder = Path(sys.argv[1])
wanted = [WantedFile(str(path)) for path in sorted(folder.glob("*.root"))]
wanted.append(WantedFile(sys.argv[2]))
update_index(folder / "index", wanted, make_readers, 2)
"""


def test_an_interrupted_build_ends_and_keeps_what_it_read(tmp_path: Path) -> None:
    """The last file is never read to its end."""
    some_files(tmp_path, 3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(WAIT_S_MAX)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x.root"
        words = [sys.executable, "-c", UPDATER, str(tmp_path), url]
        with subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as builder:
            assert builder.stdout is not None
            try:
                with silent.accept()[0]:
                    builder.send_signal(signal.SIGINT)
                    assert builder.stdout.readline() == "interrupted\n"
                    assert builder.wait(WAIT_S_MAX) != 0
            finally:
                builder.kill()
    assert len(EventIndex(tmp_path / "index").files) == 3


def runs(pid: int) -> bool:
    """Whether a process is there and has not ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def spin(steps: int) -> None:
    """Let some time pass, a random part of what a file takes."""
    for _ in range(steps):
        pass


def check_whole(folder: Path) -> EventIndex | None:
    """Open what a killed builder left: every event of every file in it is found, once."""
    try:
        index = EventIndex(folder)
    except NotFoundError:
        assert not (folder / MANIFEST_NAME).exists()
        return None
    index.check()
    numbers = [int(file.lfn.removesuffix(".root")) for file in index.files.values()]
    assert sorted(numbers) == list(range(len(numbers)))
    events = np.arange(len(numbers) * EVENTS, dtype=np.uint64)
    keys = EventKeys(np.full(len(events), 3, np.uint32), np.full(len(events), 5, np.uint32), events)
    found = index.lookup(keys, index.only())
    assert found.keys.tolist() == list(range(len(events)))
    assert (found.rows.entries == events % np.uint64(EVENTS)).all()
    return index
