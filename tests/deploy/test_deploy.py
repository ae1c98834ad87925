"""Units, sites and the recipe of a container: what they are made for reads them without a word."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.stack.nginx import nginx, skip_without_nginx

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = sorted(DEPLOY.glob("systemd/*.service"))
SITES = sorted(DEPLOY.glob("nginx/*.conf"))
EXPOSURE_MAX = 20
"""Tenths, as `systemd-analyze security` counts: 20 is "OK", 100 what a service is by default."""


@pytest.fixture
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A unit whose command is one that is installed here."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze is installed (as root: apt-get install systemd)")
    found: Path = request.param
    command = Path(sys.executable).with_name("evstream")
    if not command.exists():
        command = Path(sys.executable)
    text = found.read_text(encoding="utf-8").replace("/opt/evstream/bin/evstream", str(command))
    path = tmp_path / found.name
    path.write_text(text)
    return path


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name, indirect=True)
def test_systemd_has_nothing_to_say_of_a_unit(unit: Path) -> None:
    done = run("systemd-analyze", "verify", "--man=no", unit)
    # What it says of other units of this machine is none of ours.
    said = [line for line in done.stderr.splitlines() if unit.name in line]
    assert not said
    assert done.returncode == 0 or not said


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name, indirect=True)
def test_a_unit_is_hardened(unit: Path) -> None:
    words = ("--offline=true", f"--threshold={EXPOSURE_MAX}", "--no-pager")
    done = run("systemd-analyze", "security", *words, unit)
    assert done.returncode == 0, f"{done.stdout[-4000:]}{done.stderr}"


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name, indirect=True)
def test_a_units_command_is_one_that_there_is(unit: Path) -> None:
    """The words after the command parse: each flag exists, and nothing that is needed lacks."""
    from evstream.cli.commands import app

    (line,) = re.findall(r"^ExecStart=\S+ (.*)$", unit.read_text(), re.MULTILINE)
    command, bound, *_ = app.parse_args(line.split(), exit_on_error=False, print_error=False)
    assert command.__name__ == line.split()[0]
    assert bound.arguments


@pytest.mark.parametrize("site", SITES, ids=lambda path: path.name)
def test_nginx_reads_a_site(site: Path, tmp_path: Path) -> None:
    skip_without_nginx()
    certificate(tmp_path)
    text = site.read_text(encoding="utf-8").replace("/etc/evstream/tls", str(tmp_path))
    frame = f"pid {tmp_path}/pid; events {{}} http {{ access_log off; {text}\n}}\n"
    config = tmp_path / "nginx.conf"
    config.write_text(frame)
    done = run("nginx", "-t", "-q", "-p", tmp_path, "-c", config, "-e", "stderr")
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr


@pytest.mark.server
@pytest.mark.parametrize("site", SITES, ids=lambda path: path.name)
def test_nginx_serves_a_site(site: Path, tmp_path: Path) -> None:
    """It starts with the site as it is, but for the port and where its files are."""
    certificate(tmp_path)
    port = free_port()
    text = site.read_text(encoding="utf-8").replace("/etc/evstream/tls", str(tmp_path))
    text = re.sub(r"listen \[::\]:\d+", f"listen [::1]:{port}", text)
    text = re.sub(r"listen \d+", f"listen 127.0.0.1:{port}", text)
    with nginx(text, port, files_of_ours=True) as daemon:
        assert daemon.runs


def certificate(folder: Path) -> None:
    """Write a certificate of nobody's."""
    words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    where = ["-keyout", folder / "key.pem", "-out", folder / "certificate.pem"]
    done = run("openssl", *words, *where, "-days", "1", "-subj", "/CN=evstream.example.org")
    assert done.returncode == 0, done.stderr


def test_the_containers_recipe_is_whole() -> None:
    """No builder can be had everywhere: each line is one that there is, and names what exists."""
    text = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
    lines = [line for line in re.sub(r"\\\n", " ", text).splitlines() if line[:1] not in ("", "#")]
    words = [line.split(maxsplit=1)[0] for line in lines]
    assert words[0] == "FROM"
    known = {"FROM", "COPY", "WORKDIR", "RUN", "ENV", "USER", "VOLUME", "STOPSIGNAL"}
    assert set(words) <= known | {"ENTRYPOINT", "CMD"}
    assert words.index("USER") < words.index("ENTRYPOINT")
    project = (DEPLOY.parent / "pyproject.toml").read_text(encoding="utf-8")
    (extras,) = re.findall(r'"\.\[([\w,]+)\]"', text)
    for extra in extras.split(","):
        assert re.search(rf"^{extra} = \[", project, re.MULTILINE), extra
    assert (DEPLOY.parent / "constraints.txt").exists()
