"""The service's commands apart, and its doors."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import uproot

from tests.spine.commands import CommandLine, wait_until

pytestmark = pytest.mark.server

COPY = "cp {input} {output}"


def test_the_job_apart_over_tcp(command: CommandLine, tmp_path: Path, events: list[Path]) -> None:
    data = tmp_path / "data"
    command.serve(data, "--port", 0)
    address = json.loads((data / "address.json").read_text())
    token = (data / "token").read_text()
    door = ["--url", address["url"], "--token", token]
    added = command.json("dataset", "add", "user:two", *events, *door)
    assert [file["trees"] for file in added["files"]] == [{"Events": 600}, {"Events": 400}]
    assert command.json("dataset", "list", *door)[0]["files"] == 2
    assert command.json("dataset", "show", "user:two", *door) == added
    task = command.json("submit", "user:two", "--payload", COPY, "--merge", *door)
    command.start("pilot", *door, "--cores", 2)
    command.run("status", task["id"], "--watch", *door)
    assert command.json("status", task["id"], *door)["state"] == "done"
    assert command.json("status", *door)[0]["process"]["finished"] == 1000
    paths = command.json("task", "outputs", task["id"], "results", *door)
    assert [Path(path).name for path in paths] == ["merged.root", "receipt.json"]
    levels = command.json("verify", "results/receipt.json")
    assert [level["holds"] for level in levels] == [True] * 4, levels


def test_get_fetches_exactly_what_is_asked(
    command: CommandLine, tmp_path: Path, events: list[Path]
) -> None:
    data = tmp_path / "data"
    command.serve(data)
    command.run("dataset", "add", "user:one", events[0], "--data", data)
    words = ["--entries", "100:200", "--branches", "event", "Muon_*", "--data", data]
    first = command.json("get", "user:one", "slice.root", *words)
    with uproot.open(tmp_path / "slice.root") as file:
        assert file["Events"]["event"].array(library="np").tolist() == list(range(100, 200))
        assert "x" not in file["Events"]
    second = command.json("get", "user:one", "again.root", *words)
    assert second["key"] == first["key"]
    assert (tmp_path / "again.root").read_bytes() == (tmp_path / "slice.root").read_bytes()
    done = command.run(
        "get", "user:one", "no.root", "--entries", "500:700", "--data", data, status=2
    )
    assert "not within [0, 600)" in done.stderr
    assert not (tmp_path / "no.root").exists()


def test_get_writes_to_files_alone(
    command: CommandLine, tmp_path: Path, events: list[Path]
) -> None:
    data = tmp_path / "data"
    command.serve(data)
    command.run("dataset", "add", "user:one", events[0], "--data", data)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe"):
        done = command.run("get", "user:one", name, "--data", data, status=2)
        assert "is no regular file" in done.stderr
    (tmp_path / "link.root").symlink_to(tmp_path / "target.root")
    command.run("get", "user:one", "link.root", "--data", data)
    assert (tmp_path / "link.root").is_symlink()
    assert (tmp_path / "target.root").is_file()


def test_cancel_keeps_what_is_committed(
    command: CommandLine, tmp_path: Path, events: list[Path]
) -> None:
    data = tmp_path / "data"
    command.serve(data)
    task = command.json("submit", *events, "--payload", COPY, "--data", data)["id"]
    assert command.json("task", "cancel", task, "--data", data)["state"] == "aborted"
    command.run("task", "outputs", task, "results", "--data", data)
    receipt = json.loads((tmp_path / "results/receipt.json").read_text())
    assert receipt["counts"]["cancelled"] == 1000
    ledger, *_, complete = command.json("verify", "results/receipt.json")
    assert (ledger["holds"], complete["holds"]) == (True, False)
    done = command.run("verify", "results/receipt.json", "--complete", status=1)
    assert done.stdout.splitlines()[-1].startswith("NOT COMPLETE: 0 of 1000 events")
    assert "no task" in command.run("task", "cancel", 99, "--data", data, status=2).stderr
    assert "no task" in command.run("pilot", "--task", 99, "--data", data, status=2).stderr
    # This one has been.
    idle = {"EVSTREAM_PILOT_IDLE_S_MAX": "0"}
    command.run("pilot", "--task", task, "--data", data, env=idle)


def test_one_owner_per_data_directory(command: CommandLine, tmp_path: Path) -> None:
    data = tmp_path / "data"
    first = command.serve(data)
    done = command.run("serve", "--data", data, status=1)
    assert f"in use by process {first.pid}" in done.stderr


def test_sigterm_ends_the_service_cleanly(command: CommandLine, tmp_path: Path) -> None:
    data = tmp_path / "data"
    service = command.serve(data)
    assert command.end(service, signal.SIGTERM) == 0
    assert not (data / "address.json").exists()
    done = command.run("status", "--data", data, status=2)
    assert "no service runs on" in done.stderr


def test_the_socket_and_the_secrets_are_their_owners_alone(
    command: CommandLine, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    command.serve(data)
    path = Path(json.loads((data / "address.json").read_text())["url"].removeprefix("unix:"))
    for secret in (path, data / "address.json", data / "keys/urls", data / "keys/receipts"):
        assert stat.S_IMODE(secret.stat().st_mode) & 0o077 == 0, secret
    assert stat.S_IMODE(data.stat().st_mode) == 0o700


@pytest.mark.root_user
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv of util-linux")
def test_another_local_user_is_refused(command: CommandLine, tmp_path: Path) -> None:
    data = tmp_path / "data"
    command.serve(data)
    path = json.loads((data / "address.json").read_text())["url"].removeprefix("unix:")
    # Even where every folder on the way is open, the socket itself is not.
    for folder in (data, *tmp_path.parents, tmp_path):
        if folder != Path("/") and folder.owner() == "root" and str(folder) != "/tmp":
            folder.chmod(folder.stat().st_mode | 0o055)
    code = f"import socket; socket.socket(socket.AF_UNIX).connect({path!r})"
    python = shutil.which("python3", path="/usr/bin:/bin") or sys.executable
    done = subprocess.run(
        ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", python, "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "PermissionError" in done.stderr, done.stderr


@pytest.mark.parametrize("token", ["", "wrong"])
def test_tcp_without_the_token_is_refused(command: CommandLine, tmp_path: Path, token: str) -> None:
    data = tmp_path / "data"
    command.serve(data, "--port", 0)
    url = json.loads((data / "address.json").read_text())["url"]
    done = command.run("status", "--url", url, "--token", token, status=2)
    assert "credentials are missing or wrong" in done.stderr


def test_a_taken_port_is_told(command: CommandLine, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = command.run("serve", "--data", tmp_path / "data", "--port", port, status=1)
    assert f"cannot listen on port {port}" in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_port_that_is_none_is_told(command: CommandLine, tmp_path: Path) -> None:
    done = command.run("serve", "--data", tmp_path / "data", "--port", 99999, status=2)
    assert "there is no port 99999" in done.stderr
    assert not (tmp_path / "data").exists()


def test_doctor_and_config_say_what_is_there(command: CommandLine, tmp_path: Path) -> None:
    findings = {finding["name"]: finding for finding in command.json("doctor", "--data", tmp_path)}
    assert findings["python"]["ok"]
    assert findings["sqlite"]["ok"]
    assert not findings["service"]["ok"]
    assert "evstream serve" in findings["service"]["remedy"]
    shown = json.loads(
        command.run("config", "show", "--origin", "--json", env={"EVSTREAM_LEASE_S": "7.5"}).stdout
    )
    assert shown["lease_s"] == {"value": 7.5, "origin": "EVSTREAM_LEASE_S"}
    bad = command.run("config", "show", env={"EVSTREAM_LEASE_S": "soon"}, status=1)
    assert "lease_s from EVSTREAM_LEASE_S" in bad.stderr


def test_a_stopped_pilot_gives_back_what_it_has_not_begun(
    command: CommandLine, tmp_path: Path, events: list[Path]
) -> None:
    data = tmp_path / "data"
    command.serve(data)
    wait_for = tmp_path / "go"
    script = tmp_path / "wait.py"
    script.write_text(
        "import pathlib, shutil, sys, time\n"
        "pathlib.Path(sys.argv[3]).touch()\n"
        "while not pathlib.Path(sys.argv[4]).exists(): time.sleep(0.01)\n"
        "shutil.copyfile(sys.argv[1], sys.argv[2])\n"
    )
    begun = tmp_path / "begun"
    payload = f"{sys.executable} {script} {{input}} {{output}} {begun} {wait_for}"
    words = ["--payload", payload, "--events-per-range", 100, "--data", data]
    task = command.json("submit", *events, *words)["id"]
    pilot = command.start("pilot", "--data", data, "--cores", 1)
    wait_until(begun.exists, "the first payload")
    pilot.send_signal(signal.SIGTERM)
    wait_for.touch()
    assert pilot.wait(timeout=60) == 0
    progress = command.json("status", task, "--data", data)["process"]
    assert progress["finished"] == 100
    assert progress["running"] == 0
    assert progress["sent"] == 0
