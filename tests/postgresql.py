"""A PostgreSQL server of the tests' own, which they may stop, kill and start again."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import psutil
import psycopg
import pytest

from evstream.adapters.catalogue.postgresql import SERVER_VERSION_MIN

SERVER_USER = "postgres"
WAIT_S_MAX = 120
SETTINGS = {
    "listen_addresses": "''",
    "max_connections": "200",
    "shared_buffers": "64MB",
    # A machine that loses its power is not among the tests; a killed server is.
    "fsync": "off",
    "logging_collector": "off",
}


@cache
def programs() -> Path | None:
    """Return the folder with the programs of the newest server; None if none is new enough."""
    places = list(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found := shutil.which("initdb"):
        places.append(Path(found).resolve())
    newest = max(places, key=_version, default=None)
    if newest is None or _version(newest) < SERVER_VERSION_MIN:
        return None
    return newest.parent


@cache
def _version(initdb: Path) -> int:
    told = subprocess.run([initdb, "--version"], capture_output=True, text=True, check=False).stdout
    number = re.search(r"\d+", told)
    return int(number[0]) if number else 0


def skip_without_server() -> None:
    """Skip the test where no server can be started."""
    if programs() is None:
        pytest.skip(
            f"no PostgreSQL {SERVER_VERSION_MIN} or newer is installed"
            " (as root: apt-get install postgresql)"
        )
    if os.geteuid() == 0 and not any(user.pw_name == SERVER_USER for user in pwd.getpwall()):
        pytest.skip(f"a server does not run as root, and there is no user {SERVER_USER}")


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class Server:
    """A server that only a socket in a folder of its own leads to.

    Attributes
    ----------
    url : str
        Of its first database, for its superuser.
    socket : Path
    uid, gid : int
        Of the user that it runs as.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        found = programs()
        assert found is not None
        self._programs = found
        self._folder = folder
        self._data = folder / "data"
        self.socket = folder / ".s.PGSQL.5432"
        self.uid, self.gid = os.geteuid(), os.getegid()
        self._as_user: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count()
        self.url = self.url_of("postgres")
        if os.geteuid() == 0:
            # The server refuses to run as root.
            entry = pwd.getpwnam(SERVER_USER)
            self.uid, self.gid = entry.pw_uid, entry.pw_gid
            os.chown(folder, self.uid, self.gid)
            ids = [f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups"]
            self._as_user = ["setpriv", *ids]
        words = ["-A", "trust", "-U", "evstream", "--no-sync", "-E", "UTF8", "--locale=C"]
        self.run("initdb", "-D", self._data, *words)
        mine = {"unix_socket_directories": f"'{folder}'"}
        with (self._data / "postgresql.conf").open("a") as file:
            for name, value in {**(settings or SETTINGS), **mine}.items():
                file.write(f"{name} = {value}\n")

    def url_of(self, database: str) -> str:
        """Return the URL of a database."""
        return f"postgresql://evstream@/{database}?host={self._folder}"

    def run(self, program: str, *words: str | Path) -> None:
        """Run one of PostgreSQL's programs as the server's user."""
        command = [*self._as_user, self._programs / program, *words]
        done = subprocess.run(
            command,
            check=False,
            cwd=self._folder,
            capture_output=True,
            text=True,
            timeout=WAIT_S_MAX,
        )
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}{self._log()}"

    def _log(self) -> str:
        path = self._folder / "log"
        return path.read_text(errors="replace")[-2000:] if path.exists() else ""

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        command: list[str | Path] = [*self._as_user, self._programs / "postgres", "-D", self._data]
        with (self._folder / "log").open("ab") as log:
            # A child of ours, so that it leaves no dead process whose number is in its lock file.
            self._process = subprocess.Popen(
                command, cwd=self._folder, stdout=log, stderr=log, start_new_session=True
            )
        until = time.monotonic() + WAIT_S_MAX
        while not self._answers():
            assert self._process.poll() is None, f"the server ended:\n{self._log()}"
            assert time.monotonic() < until, f"the server does not start:\n{self._log()}"
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: SIGINT ends connections first, SIGQUIT all at once."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(WAIT_S_MAX)
            self._process = None

    def kill(self) -> None:
        """Kill all of the server's processes at once, as the kernel does for want of memory."""
        assert self._process is not None
        processes = psutil.Process(self._process.pid).children()
        self._process.kill()
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait(WAIT_S_MAX)
        self._process = None
        # The next server refuses to start while one of them holds the memory that they share.
        until = time.monotonic() + WAIT_S_MAX
        while any(_lives(process) for process in processes):
            assert time.monotonic() < until, "the server's processes outlive their kill"
            time.sleep(0.001)

    def new_schema(self) -> str:
        """Make an empty schema; return the URL that leads there."""
        name = f"test_{next(self._numbers)}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}".encode())
        return f"{self.url}&options=-csearch_path%3D{name}"

    def new_database(self) -> str:
        """Make an empty database; return its URL."""
        name = f"test_{next(self._numbers)}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url_of(name)


@contextmanager
def server(settings: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Start a server; it ends with the context. Where there is none, the test is skipped.

    `SETTINGS` hold unless others are given.
    """
    skip_without_server()
    folder = Path(tempfile.mkdtemp(prefix="evpg-", dir="/tmp"))
    made = None
    try:
        made = Server(folder, settings)
        made.start()
        yield made
    finally:
        if made is not None:
            made.stop(signal.SIGQUIT)
        shutil.rmtree(folder, ignore_errors=True)
