"""Several output streams through a whole job: files, receipt, verification."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import uproot

from evstream.assembly import verify_receipt
from tests.spine.commands import CommandLine, write_events

pytestmark = pytest.mark.server

PAYLOAD = """
import os, shutil, sys, numpy as np, uproot

source, output, report = sys.argv[1:]
assert report == os.environ["EVSTREAM_OUTPUT_REPORT"]
with uproot.open(source) as file:
    event = file["Events"]["event"].array(library="np")
shutil.copyfile(source, output)
for number, part in enumerate(np.array_split(event, 2)):
    with uproot.recreate(f"hist_{number}.root") as file:
        file["h"] = np.histogram(part, bins=10, range=(0, 1000))
with open(report, "w") as file:
    file.write(f"{len(event)} events")
"""


def test_every_stream_is_stored_merged_and_verified(command: CommandLine, tmp_path: Path) -> None:
    source = write_events(tmp_path / "events.root", 600)
    script = tmp_path / "payload.py"
    script.write_text(PAYLOAD)
    line = f"{sys.executable} {script} {{input}} {{output}} {{output:report}}"
    words = ["--payload", line, "--events-per-range", 200, "--merge"]
    streams = ["--stream", "report=.txt", "--stream", "hist=hist_*.root"]
    command.run("run", source, *words, *streams, "--output", "out", "--workers", 2)
    out = tmp_path / "out"
    names = sorted(path.name for path in out.iterdir() if path.is_file())
    reports = [f"events.00000-{start}-{start + 200}.report.txt" for start in (0, 200, 400)]
    assert names == [*reports, "merged.hist.root", "merged.output.root", "receipt.json"]
    assert [(out / name).read_text() for name in reports] == ["200 events"] * 3
    with uproot.open(out / "merged.output.root") as file:
        assert file["Events"].num_entries == 600
    with uproot.open(out / "merged.hist.root") as file:
        assert file["h"].values().sum() == np.sum(np.arange(600) < 1000)
    assert [level.holds for level in verify_receipt(out / "receipt.json")] == [True] * 4
    receipt = json.loads((out / "receipt.json").read_bytes())
    assert [len(row[4]) for row in receipt["commits"]] == [4] * 3


UNTIL_SENT = """
import pathlib, shutil, sys, time

source, output, store = sys.argv[1:]
shutil.copyfile(source, output)
end = time.monotonic() + 60
while not list(pathlib.Path(store).glob("tasks/1/output/*.root")):
    if time.monotonic() > end:
        sys.exit("the output was not sent")
    time.sleep(0.02)
"""


def test_an_output_that_was_closed_is_sent_while_its_payload_runs(
    command: CommandLine, tmp_path: Path
) -> None:
    write_events(tmp_path / "a.root", 50)
    (tmp_path / "payload.py").write_text(UNTIL_SENT)
    store = tmp_path / "out" / ".evstream" / "outputs"
    line = f"{sys.executable} payload.py {{input}} {{output}} {store}"
    task = {"payload": {"command": line}, "outputs": [{"complete": "closed"}]}
    (tmp_path / "task.yaml").write_text(json.dumps(task))
    command.run("run", "a.root", "--task-file", "task.yaml", "--output", "out", "--workers", 1)
    assert [level.holds for level in verify_receipt(tmp_path / "out" / "receipt.json")] == [
        True
    ] * 4
