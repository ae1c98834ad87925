"""The client bundle: built, moved, and used by a pilot that has nothing else."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.spine.commands import CommandLine
from tools.bundle import main

pytestmark = [pytest.mark.server, pytest.mark.slow]

OWN = "/libraries/of/the/experiment"
COPY_IF_OWN = f"""sh -c 'test "$PYTHONPATH" = {OWN} && cp {{input}} {{output}}'"""
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


def digests(root: Path) -> dict[str, str]:
    """Return what is in a bundle, but for the list of it."""
    files = (path for path in root.rglob("*") if path.is_file())
    found = {str(one.relative_to(root)): one.read_bytes() for one in files}
    return {
        name: hashlib.sha256(content).hexdigest()
        for name, content in found.items()
        if name != "manifest.json"
    }


def test_a_pilot_runs_from_a_bundle_that_was_moved(
    command: CommandLine, tmp_path: Path, events: list[Path]
) -> None:
    assert main([str(tmp_path / "built"), "--python", HERE]) == 0
    bundle = tmp_path / "another place" / "evstream-client"
    bundle.parent.mkdir()
    (tmp_path / "built").rename(bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert digests(bundle) == manifest["sha256"]
    assert manifest["pythons"][HERE]["evstream"]
    assert str(tmp_path) not in "".join(
        path.read_text() for path in bundle.rglob("*.dist-info/RECORD")
    )

    data = tmp_path / "data"
    command.serve(data, "--port", 0)
    address = json.loads((data / "address.json").read_text())["url"]
    task = command.json("submit", events[1], "--payload", COPY_IF_OWN, "--data", data)["id"]
    (tmp_path / "evstream").symlink_to(bundle / "bin" / "evstream")
    pilot = subprocess.run(
        [tmp_path / "evstream", "pilot", "--url", address, "--task", str(task)],
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": OWN,
            "EVSTREAM_PYTHON": sys.executable,
            "EVSTREAM_PILOT_IDLE_S_MAX": "0",
            "EVSTREAM_TOKEN_FILE": str(data / "token"),
            "TMPDIR": str(tmp_path),
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert pilot.returncode == 0, pilot.stderr
    assert command.json("status", task, "--data", data)["state"] == "done"
    # Nothing was written.
    assert digests(bundle) == manifest["sha256"]


def test_a_node_without_a_python_for_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "lib" / "python3.99").mkdir(parents=True)
    launcher = tmp_path / "bin" / "evstream"
    launcher.write_text(Path("tools/bundle_files/evstream.sh").read_text())
    launcher.chmod(0o755)
    environment = {"PATH": "/usr/bin:/bin", "EVSTREAM_PYTHON": sys.executable}
    done = subprocess.run(
        [launcher], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert f"{sys.executable} is {HERE}" in done.stderr
    assert "python3.99" in done.stderr
