"""``evstream run``: whole jobs on real files, judged by ROOT and by uproot."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

from evstream.assembly import verify_receipt
from tests.spine.commands import CommandLine, wait_until, write_events
from tests.spine.root_judge import assert_equal_by_root
from tests.spine.web_server import serving

pytestmark = pytest.mark.server

COPY = "cp {input} {output}"
REAL_FILES = [
    ("Run2012B_SingleMu_1000.root", "Events", 150),
    ("nanoAOD_2015_CMS_Open_Data_ttbar.root", "Events", 30),
    ("uproot-HZZ-zlib.root", "events", 400),
]


@pytest.mark.parametrize(("name", "tree", "events_per_range"), REAL_FILES)
def test_a_copying_payload_gives_back_every_branch(
    command: CommandLine,
    tmp_path: Path,
    shared_data: Path,
    name: str,
    tree: str,
    events_per_range: int,
) -> None:
    source = shared_data / name
    words = ["--payload", COPY, "--events-per-range", events_per_range, "--merge"]
    command.run("run", source, *words, "--tree", tree, "--output", "out", "--workers", 2)
    levels = verify_receipt(tmp_path / "out/receipt.json")
    assert [level.holds for level in levels][:2] == [True, True], levels
    merged = tmp_path / "out/merged.root"
    assert_equal_by_uproot(source, merged, tree)
    with uproot.open(source) as file:
        entries = file[tree].num_entries
    assert_equal_by_root(source, merged, tree, entries, tmp_path)


def assert_equal_by_uproot(one: Path, other: Path, tree: str) -> None:
    """Assert that two files hold the same branches and entries of a tree."""
    with uproot.open(one) as a, uproot.open(other) as b:
        assert b[tree].num_entries == a[tree].num_entries
        assert b[tree].keys() == a[tree].keys()
        for branch in a[tree].keys(recursive=True):
            expected, found = a[tree][branch].array(), b[tree][branch].array()
            assert expected.type == found.type, branch
            assert ak.array_equal(expected, found, equal_nan=True), branch


METADATA = [
    ("test_FCC_Spring2021.root", "events", 7, ["metadata", "run_metadata", "col_metadata"]),
    ("edm4hep_example.root", "events", 1, ["podio_metadata"]),
    ("exot_15.root", "CollectionTree", 3, ["MetaData"]),
]


@pytest.mark.parametrize(("name", "tree", "events_per_range", "beside"), METADATA)
def test_metadata_beside_the_events_is_counted_once(
    command: CommandLine,
    tmp_path: Path,
    shared_data: Path,
    name: str,
    tree: str,
    events_per_range: int,
    beside: list[str],
) -> None:
    source = shared_data / name
    words = ["--payload", COPY, "--events-per-range", events_per_range, "--merge"]
    command.run("run", source, *words, "--tree", tree, "--output", "out")
    ledger, outputs, *_ = verify_receipt(tmp_path / "out/receipt.json")
    assert ledger.holds
    assert outputs.holds
    with uproot.open(source) as one, uproot.open(tmp_path / "out/merged.root") as other:
        for path in beside:
            assert other[path].num_entries == one[path].num_entries
            for branch in other[path].keys(filter_typename="/^u?int.*|float|double/"):
                assert ak.array_equal(one[path][branch].array(), other[path][branch].array())


def test_outputs_without_a_merge_cover_every_range(
    command: CommandLine, tmp_path: Path, events: list[Path]
) -> None:
    done = command.run(
        "run", *events, "--payload", COPY, "--events-per-range", 250, "--output", "out", "--json"
    )
    answer = json.loads(done.stdout)
    assert answer["task"]["state"] == "done"
    assert answer["summary"]["ranges"] == 5
    outputs = sorted((tmp_path / "out").glob("*.root"))
    assert len(outputs) == 5
    total = sum(uproot.open(path)["Events"].num_entries for path in outputs)
    assert total == 1000
    assert all(level.holds for level in verify_receipt(tmp_path / "out/receipt.json"))


def test_only_the_asked_branches_are_delivered(
    command: CommandLine, tmp_path: Path, events: list[Path]
) -> None:
    words = ["--payload", COPY, "--branches", "run", "Muon_*", "--merge", "--output", "out"]
    command.run("run", events[0], *words)
    with uproot.open(tmp_path / "out/merged.root") as file:
        assert set(file["Events"].keys()) == {"run", "nMuon_pt", "Muon_pt"}


def test_urls_are_input_as_files_are(
    command: CommandLine, tmp_path: Path, events: list[Path]
) -> None:
    with serving(tmp_path) as url:
        words = ["--payload", COPY, "--events-per-range", 100, "--merge", "--output", "out"]
        command.run("run", *(f"{url}/{path.name}?token=secret" for path in events), *words)
    with uproot.open(tmp_path / "out/merged.root") as file:
        numbers = file["Events"]["event"].array(library="np")
    assert numbers.tolist() == [*range(600), *range(400)]
    levels = verify_receipt(tmp_path / "out/receipt.json")
    assert [level.holds for level in levels][:2] == [True, True], levels
    assert "secret" not in (tmp_path / "out/receipt.json").read_text()


@pytest.mark.slow
def test_a_source_that_refuses_for_ever_ends_the_job_until_it_is_given_again(
    command: CommandLine, tmp_path: Path, events: list[Path]
) -> None:
    refused, once = tmp_path / "refused", tmp_path / "once"
    (tmp_path / "skim.sh").write_text(f'mkdir {once} && touch {refused}\ncp "$1" "$2"\n')
    with serving(tmp_path, refused) as url:
        words = ["run", *(f"{url}/{path.name}" for path in events), "--workers", 1, "--merge"]
        words += ["--payload", "sh skim.sh {input} {output}", "--events-per-range", 100]
        words += ["--node-failures-max", 1, "--output", "out"]
        # Fetches are tried for as long as a lease lives.
        stopped = command.run(*words, status=None, env={"EVSTREAM_LEASE_S": "2"})
        assert stopped.returncode != 0
        assert "task paused: 1 attempt on entries" in stopped.stderr
        assert "the same command again" in stopped.stderr
        refused.unlink()
        command.run(*words)
    with uproot.open(tmp_path / "out/merged.root") as file:
        numbers = file["Events"]["event"].array(library="np")
    assert numbers.tolist() == [*range(600), *range(400)]


def test_a_coffea_fileset_with_steps(
    command: CommandLine, tmp_path: Path, events: list[Path]
) -> None:
    fileset = {
        "zmumu": {
            "files": {
                str(events[0]): {
                    "object_path": "Events",
                    "steps": [[0, 100], [100, 200], [300, 400]],
                    "num_entries": 600,
                    "uuid": str(uproot.open(events[0]).file.uuid),
                }
            },
            "metadata": {"xsec": 1.0},
        }
    }
    (tmp_path / "fileset.json").write_text(json.dumps(fileset))
    command.run("run", "fileset.json", "--payload", COPY, "--merge", "--output", "out")
    with uproot.open(tmp_path / "out/merged.root") as file:
        numbers = file["Events"]["event"].array(library="np")
    assert numbers.tolist() == [*range(200), *range(300, 400)]


def test_histograms_are_added(command: CommandLine, tmp_path: Path, events: list[Path]) -> None:
    payload = tmp_path / "histogram.py"
    payload.write_text(
        "import sys, numpy as np, uproot\n"
        "x = uproot.open(sys.argv[1])['Events']['x'].array(library='np')\n"
        "with uproot.recreate(sys.argv[2]) as file:\n"
        "    file['x'] = np.histogram(x, bins=20, range=(0, 1))\n"
    )
    words = ["--payload", f"{sys.executable} {payload} {{input}} {{output}}"]
    command.run("run", *events, *words, "--events-per-range", 300, "--merge", "--output", "out")
    expected = np.concatenate([uproot.open(p)["Events"]["x"].array(library="np") for p in events])
    with uproot.open(tmp_path / "out/merged.root") as file:
        counts, _ = file["x"].to_numpy()
    assert counts.tolist() == np.histogram(expected, bins=20, range=(0, 1))[0].tolist()


FAULTS = [
    ("sys.exit(7)", "exited with status 7"),
    ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
    ("pass", "output"),
    ("open(sys.argv[2], 'wb').write(b'no ROOT file')", "the payload's output cannot be read: "),
    ("import threading; threading.Event().wait()", "hung"),
]


@pytest.mark.parametrize(("fault", "reason"), FAULTS)
def test_a_bad_payload_is_a_failed_range_with_reason_and_log(
    command: CommandLine, tmp_path: Path, events: list[Path], fault: str, reason: str
) -> None:
    payload = tmp_path / "bad.py"
    payload.write_text(
        "import shutil, sys\n"
        "print('range', sys.argv[3])\n"
        f"if int(sys.argv[3]) == 200:\n    {fault}\n"
        "else:\n    shutil.copyfile(sys.argv[1], sys.argv[2])\n"
    )
    words = ["--payload", f"{sys.executable} {payload} {{input}} {{output}} {{entry_start}}"]
    words += ["--events-per-range", "200", "--failures-max", "2", "--payload-s-max", "3"]
    words += ["--bisections-max", "0"]
    done = command.run("run", events[0], *words, "--merge", "--output", "out", status=3)
    assert "200 events were set aside" in done.stderr
    receipt = json.loads((tmp_path / "out/receipt.json").read_text())
    assert [row[1:3] for row in receipt["set_aside"]] == [[200, 400]]
    assert reason in receipt["set_aside"][0][3]
    assert receipt["counts"]["committed"] == 400
    assert receipt["counts"]["failed_attempts"] == 2
    levels = verify_receipt(tmp_path / "out/receipt.json")
    assert [level.holds for level in levels] == [True, True, True, False], levels
    logs = list((tmp_path / "out/.evstream/outputs").rglob("log/*.txt"))
    assert len(logs) == 2
    assert "range 200" in logs[0].read_text()


def test_a_bad_event_is_found_and_set_aside_alone(
    command: CommandLine, tmp_path: Path, events: list[Path]
) -> None:
    payload = tmp_path / "picky.py"
    payload.write_text(
        "import shutil, sys\n"
        "start, stop = int(sys.argv[3]), int(sys.argv[4])\n"
        "if start <= 333 < stop:\n    sys.exit('333 is bad')\n"
        "shutil.copyfile(sys.argv[1], sys.argv[2])\n"
    )
    words = [
        "--payload",
        f"{sys.executable} {payload} {{input}} {{output}} {{entry_start}} {{entry_stop}}",
    ]
    words += ["--events-per-range", "200", "--merge", "--output", "out"]
    done = command.run("run", events[0], *words, status=3)
    assert "1 event was set aside" in done.stderr
    receipt = json.loads((tmp_path / "out/receipt.json").read_text())
    ((lfn, *interval, error),) = receipt["set_aside"]
    assert (lfn, interval) == ("a.root", [333, 334])
    assert "exited with status 1" in error
    assert receipt["counts"]["committed"] == 599
    levels = verify_receipt(tmp_path / "out/receipt.json")
    assert [level.holds for level in levels] == [True, True, True, False], levels


def test_a_range_that_kills_its_worker_is_set_aside_and_the_rest_done(
    command: CommandLine, tmp_path: Path, events: list[Path]
) -> None:
    payload = tmp_path / "deadly.sh"
    payload.write_text('test $3 = 200 && kill -9 $PPID && sleep 100\ncp "$1" "$2"\n')
    words = ["--payload", f"sh {payload} {{input}} {{output}} {{entry_start}}"]
    words += ["--events-per-range", "100", "--workers", "2", "--losses-max", "8", "--output", "out"]
    words += ["--bisections-max", "0"]
    done = command.run("run", events[0], *words, status=3)
    assert "100 events were set aside" in done.stderr
    receipt = json.loads((tmp_path / "out/receipt.json").read_text())
    ((lfn, *interval, error),) = receipt["set_aside"]
    assert (lfn, interval) == ("a.root", [200, 300])
    assert "8 workers were lost while they ran it" in error
    assert receipt["counts"]["committed"] == 500
    assert receipt["counts"]["failed_attempts"] >= 8


def test_a_killed_run_goes_on_where_it_was(
    command: CommandLine, tmp_path: Path, events: list[Path]
) -> None:
    payload = tmp_path / "slow.py"
    payload.write_text(
        "import shutil, sys, time\n"
        "begin = time.process_time()\n"
        "while time.process_time() - begin < 0.1: pass\n"
        "shutil.copyfile(sys.argv[1], sys.argv[2])\n"
    )
    words = ["run", *events, "--payload", f"{sys.executable} {payload} {{input}} {{output}}"]
    words += ["--events-per-range", "20", "--merge", "--output", "out"]
    process = command.start(*words)
    outputs = tmp_path / "out/.evstream/outputs"
    wait_until(lambda: len(list(outputs.rglob("output/*.root"))) >= 5, "the first outputs")
    command.end(process, signal.SIGKILL)
    before = len(list(outputs.rglob("output/*.root")))
    command.run(*words)
    receipt = json.loads((tmp_path / "out/receipt.json").read_text())
    assert receipt["counts"]["committed"] == 1000
    assert receipt["counts"]["attempts"] < 50 + before, "what was committed did not run again"
    assert all(level.holds for level in verify_receipt(tmp_path / "out/receipt.json"))


def test_a_merge_that_is_refused_is_tried_once_and_told_by_range(
    command: CommandLine, tmp_path: Path, events: list[Path]
) -> None:
    payload = tmp_path / "differ.py"
    payload.write_text(
        "import sys, numpy, uproot\n"
        "names = 'xy' if sys.argv[2] == '300' else 'x'\n"
        "with uproot.recreate(sys.argv[1]) as file:\n"
        "    file.mktree('Events', {name: numpy.zeros(9) for name in names})\n"
    )
    words = ["--payload", f"{sys.executable} {payload} {{output}} {{entry_start}}", "--merge"]
    words += ["--events-per-range", 300, "--output", "out"]
    done = command.run("run", events[0], *words, status=3)
    assert "the merge failed, its inputs are kept" in done.stderr
    told = "tree 'Events' of the output of entries 300:600 of a.root has other branches: y"
    assert f"1 x merge: {told}" in done.stderr
    assert " of output" not in done.stderr
    ledger, *_ = verify_receipt(tmp_path / "out/receipt.json")
    assert ledger.holds, ledger


def test_an_interrupted_run_says_how_to_go_on(
    command: CommandLine, tmp_path: Path, events: list[Path]
) -> None:
    payload = tmp_path / "wait.py"
    payload.write_text(
        "import pathlib, threading\npathlib.Path('../begun').touch()\n"
        "threading.Event().wait()\n# {output}\n"
    )
    words = ["run", *events, "--payload", f"{sys.executable} {payload} {{output}}"]
    process = command.start(*words, "--output", "out")
    wait_until(lambda: any((tmp_path / "out").rglob("begun")), "a payload")
    assert command.end(process, signal.SIGINT) == 130
    assert "0/1000 events" in (tmp_path / "process0.log").read_text()
    assert "the same command goes on" in (tmp_path / "process0.log").read_text()
    other = command.run("run", *events, "--payload", COPY, "--output", "out")
    assert f"of another job has not ended in {tmp_path / 'out'}" in other.stderr


BAD = [
    (["missing.root"], "there is no file missing.root"),
    (["*.nothing"], "nothing matches"),
    (["a.root", "--tree", "Muons"], "has no tree 'Muons'"),
    (["a.root", "--branches", "Moun_pt"], "Muon_pt"),
    (["a.root", "--events-per-range", "0"], "events per range is 0"),
    (["a.root", "--events-per-range", "100000001"], "events per range is 100000001"),
    (["a.root", "--workers", "0"], "--workers"),
    (["a.root", "--dataset", "zz"], "--dataset zz chooses from a coffea fileset"),
    (["a.root", "--workers", "100000"], "--workers"),
    (["empty.root"], "zero entries"),
    (["two.root"], "several trees: One, Two"),
    (["truncated.root"], "truncated.root"),
    (["text.root"], "text.root"),
    (["a.root", "a_copy.root"], "copies of one file"),
    (["a.root", "--output-suffix", ".txt", "--merge"], ".txt cannot be merged"),
]


@pytest.fixture
def bad_files(tmp_path: Path, events: list[Path]) -> Path:
    """A folder with good files and every kind of bad one."""
    content = events[0].read_bytes()
    (tmp_path / "a_copy.root").write_bytes(content)
    (tmp_path / "truncated.root").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.root").write_text("not a ROOT file\n")
    with uproot.recreate(tmp_path / "empty.root") as file:
        file.mktree("Events", {"x": "float32"})
    with uproot.recreate(tmp_path / "two.root") as file:
        for name in ("One", "Two"):
            file.mktree(name, {"x": "float32"}).extend({"x": np.zeros(3, np.float32)})
    return tmp_path


@pytest.mark.parametrize(("words", "message"), BAD)
def test_bad_input_is_one_line_and_leaves_nothing(
    command: CommandLine, bad_files: Path, words: list[str], message: str
) -> None:
    done = command.run("run", *words, "--payload", COPY, "--output", "out", status=None)
    assert_one_line_error(done, message)
    assert not (bad_files / "out").exists()


def assert_one_line_error(done: object, message: str) -> None:
    """Assert that a command ended with one line that says what is wrong."""
    assert done.returncode not in (0, 3), done  # type: ignore[attr-defined]
    lines = done.stderr.strip().splitlines()  # type: ignore[attr-defined]
    assert len(lines) == 1, done.stderr  # type: ignore[attr-defined]
    assert lines[0].startswith("evstream: error: ")
    assert message in lines[0], lines[0]


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ("no-such-program {input} {output}", "is not found"),
        ("./plain.txt {input} {output}", "is not executable"),
        (". {input} {output}", "is a folder"),
        ("cp {input} out", "never names {output}"),
        ("cp {input} '{output}", "no command line"),
        ("", "payload is empty"),
    ],
)
def test_a_payload_that_cannot_run_is_refused(
    command: CommandLine, tmp_path: Path, events: list[Path], payload: str, message: str
) -> None:
    (tmp_path / "plain.txt").write_text("echo\n")
    done = command.run("run", events[0], "--payload", payload, "--output", "out", status=None)
    assert_one_line_error(done, message)
    assert not (tmp_path / "out").exists()


def test_an_empty_output_is_not_the_current_folder(
    command: CommandLine, tmp_path: Path, events: list[Path]
) -> None:
    done = command.run("run", events[0], "--payload", COPY, "--output", "", status=2)
    assert_one_line_error(done, "--output is empty")
    assert not (tmp_path / ".evstream").exists()


def test_an_output_folder_that_is_a_file_is_refused(
    command: CommandLine, tmp_path: Path, events: list[Path]
) -> None:
    (tmp_path / "out").write_text("in the way")
    done = command.run("run", events[0], "--payload", COPY, "--output", "out", status=None)
    assert_one_line_error(done, "cannot write to out")


def test_an_unwritable_output_folder_is_refused(
    command: CommandLine, tmp_path: Path, events: list[Path]
) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    words = ["--payload", COPY, "--output", "closed/out"]
    # Root, too, must keep to the modes without this capability.
    humble = ["setpriv", "--bounding-set", "-dac_override"] if os.geteuid() == 0 else []
    done = command.run("run", events[0], *words, status=None, before=humble)
    assert_one_line_error(done, "cannot write to")
    assert not list((tmp_path / "closed").iterdir())


@pytest.mark.root_user
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small disk")
@pytest.mark.parametrize("kilobytes", [64, 300, 340, 420, 700])
def test_a_full_disk_ends_the_job_with_one_line(
    command: CommandLine, tmp_path: Path, shared_data: Path, kilobytes: int
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets no disk be mounted")
    source = shared_data / "uproot-HZZ-zlib.root"
    words = ["--payload", COPY, "--events-per-range", 400, "--merge", "--output", disk / "out"]
    try:
        done = command.run("run", source, *words, status=1)
        errors = [line for line in done.stderr.splitlines() if "evstream: error" in line]
        assert len(errors) == 1, done.stderr
        assert "no space is left" in errors[0]
        assert not list(disk.glob("out/*.root")), "nothing half-written"
        subprocess.run(["mount", "-o", "remount,size=100m", str(disk)], check=True)
        command.run("run", source, *words)
        levels = verify_receipt(disk / "out/receipt.json")
        assert [level.holds for level in levels][:2] == [True, True], levels
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_file_that_changed_is_refused_and_named(
    command: CommandLine, tmp_path: Path, events: list[Path]
) -> None:
    data = tmp_path / "data"
    command.serve(data)
    command.run("dataset", "add", "user:one", events[0], "--data", data)
    task = command.json(
        "submit", "user:one", "--payload", COPY, "--failures-max", 1, "--data", data
    )
    write_events(events[0], 600, run=77)
    command.start("pilot", "--data", data)
    command.run("status", task["id"], "--watch", "--data", data)
    shown = command.json("task", "show", task["id"], "--data", data)
    assert shown["task"]["state"] == "failed"
    assert "is not the file that was registered" in shown["failures"][0]["error"]
    assert shown["failures"][0]["kind"] == "source"


def test_a_job_whose_input_is_gone_says_how_to_go_on(
    command: CommandLine, events: list[Path]
) -> None:
    words = ["run", *events, "--payload", COPY, "--workers", 1, "--output", "out"]
    command.run(*words)
    events[1].unlink()
    told = command.run(*words, status=2).stderr
    assert f"there is no file {events[1]}" in told
    assert "bring it back, and the same command goes on" in told
    assert "evstream task withdraw" in told


def test_a_second_job_in_the_same_folder_is_refused_and_harms_nothing(
    command: CommandLine, tmp_path: Path, events: list[Path]
) -> None:
    words = ["run", *events, "--payload", COPY, "--events-per-range", "50", "--output", "out"]
    first = command.start(*words)
    wait_until((tmp_path / "out/.evstream/ledger.sqlite").exists, "the first job")
    second = command.run(*words, status=1)
    assert "is in use by process" in second.stderr
    assert first.wait(timeout=120) == 0
    assert all(level.holds for level in verify_receipt(tmp_path / "out/receipt.json"))


def test_results_in_the_input_folder_are_no_input(
    command: CommandLine, tmp_path: Path, events: list[Path]
) -> None:
    (tmp_path / "data").mkdir()
    for path in events:
        path.rename(tmp_path / "data" / path.name)
    words = ["run", "data", "--payload", COPY, "--output", "data/out", "--json"]
    once, again = (json.loads(command.run(*words).stdout) for _ in range(2))
    assert once["summary"]["events"] == again["summary"]["events"] == 1000
    assert once["task"]["id"] == again["task"]["id"]
    assert "nothing was computed" in command.run(*words).stderr


def test_a_job_that_ended_long_ago_is_not_done_anew(
    command: CommandLine, tmp_path: Path, events: list[Path]
) -> None:
    words = ["run", *events, "--payload", COPY, "--output", "out", "--json"]
    once = json.loads(command.run(*words).stdout)
    ledger = sqlite3.connect(tmp_path / "out/.evstream/ledger.sqlite")
    with ledger:
        # What the service does some days after the end.
        assert ledger.execute("UPDATE task SET forgotten = 1").rowcount == 1
    ledger.close()
    again = json.loads(command.run(*words).stdout)
    assert (again["task"]["id"], again["computed"]) == (once["task"]["id"], False)


def test_a_job_that_ended_says_that_nothing_is_computed_anew(
    command: CommandLine, tmp_path: Path, events: list[Path]
) -> None:
    payload = "sh -c 'echo oops; exit 3' {output}"
    words = ["run", events[0], "--payload", payload, "--failures-max", 1]
    first = command.run(*words, "--output", "out", status=3)
    assert f"entries 0:600 of {events[0].name}, log: " in first.stderr
    again = command.run(*words, "--output", "out", "--json", status=3)
    assert "task 1 ended as failed on " in again.stderr
    assert "nothing was computed anew" in again.stderr
    assert "mend the cause and give another --output" in again.stderr
    answer = json.loads(again.stdout)
    assert answer["computed"] is False
    assert answer["summary"]["wall_s"] is None
    assert answer["summary"]["bytes_of_source"] == events[0].stat().st_size


def test_no_file_of_others_is_replaced(
    command: CommandLine, tmp_path: Path, events: list[Path]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    words = ["run", events[0], "--payload", COPY, "--output", "out"]
    for name in ("receipt.json", "merged.root"):
        (out / name).write_text("precious")
        done = command.run(*words, "--merge", status=1)
        assert_one_line_error(done, f"{out / name} is there and is not of this job")
        assert [path.name for path in out.iterdir()] == [name], "nothing was begun"
        assert (out / name).read_text() == "precious"
        (out / name).unlink()
    (out / "a.00000-0-600.root").symlink_to("nowhere")
    done = command.run(*words, status=1)
    assert "a.00000-0-600.root is there and is not what this task made" in done.stderr
    assert not (out / "receipt.json").exists()
    (out / "a.00000-0-600.root").unlink()
    command.run(*words)
    other = command.run(*words, "--events-per-range", 10, status=1)
    assert "receipt.json is there and is not of this job" in other.stderr
    with contextlib.closing(sqlite3.connect(out / ".evstream/ledger.sqlite")) as ledger:
        assert ledger.execute("SELECT count(*) FROM task").fetchall() == [(1,)], "none left behind"
    assert all(level.holds for level in verify_receipt(out / "receipt.json"))


def test_an_input_that_changed_is_another_job(
    command: CommandLine, tmp_path: Path, events: list[Path]
) -> None:
    words = ["run", events[0], "--payload", COPY, "--output", "out"]
    command.run(*words)
    write_events(events[0], 600, run=77)
    done = command.run(*words, status=1)
    assert "its input, payload or flags differ" in done.stderr
    assert "choose another --output" in done.stderr


def test_words_for_a_shell_are_pointed_out(
    command: CommandLine, tmp_path: Path, events: list[Path]
) -> None:
    words = ["--payload", f"{COPY} > log", "--output", "out", "--failures-max", 1]
    done = command.run("run", events[0], *words, status=3)
    assert "runs without a shell and is given > as it stands" in done.stderr.splitlines()[0]
