"""A PostgreSQL server of the tests' own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SERVER_USER = "postgres"


def programs() -> Path | None:
    """Return the folder with the server's programs, the newest; None if there is none."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=_version)
    return places[-1].parent if places else None


def _version(path: Path) -> int:
    name = path.parts[-3]
    return int(name) if name.isdigit() else 0


@contextmanager
def server() -> Iterator[str]:
    """Start a server that only a socket in a folder of its own leads to; yield its URL."""
    where = programs()
    assert where is not None
    folder = Path(tempfile.mkdtemp(prefix="evpg-", dir="/tmp"))
    # The server refuses to run as root.
    as_user: list[str] = []
    if os.geteuid() == 0:
        entry = pwd.getpwnam(SERVER_USER)
        os.chown(folder, entry.pw_uid, entry.pw_gid)
        as_user = [
            "setpriv",
            f"--reuid={entry.pw_uid}",
            f"--regid={entry.pw_gid}",
            "--clear-groups",
        ]
    data = folder / "data"

    def run(*words: str | Path) -> None:
        subprocess.run(
            [*as_user, *words], check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=60
        )

    settings = {
        "listen_addresses": "''",
        "unix_socket_directories": str(folder),
        "max_connections": "200",
        "shared_buffers": "64MB",
    }
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    try:
        run(
            where / "initdb",
            "-D",
            data,
            "-A",
            "trust",
            "-U",
            "evstream",
            "--no-sync",
            "-E",
            "UTF8",
            "--locale=C",
        )
        run(where / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start")
        yield f"postgresql://evstream@/postgres?host={folder}"
    finally:
        if (data / "postmaster.pid").exists():
            run(where / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)
