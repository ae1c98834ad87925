"""The two ends of the link: an origin, a head and an edge far away, workers and a cache near."""

from __future__ import annotations

import compileall
import contextlib
import ctypes
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import psutil

from bench.wan_parts.link import FAR, CannotMeasureError, Link, build, link

REPOSITORY = Path(__file__).resolve().parents[2]
USER = "nobody"
ORIGIN_PORT, HTTP_PORT, CACHE_PORT, FLOOR_PORT = 1094, 8080, 1095, 7000
START_S_MAX = 60.0
CLONE_NEWNET = 0x40000000

_XROOTD = """\
all.export /
all.adminpath {folder}/admin
all.pidpath {folder}/admin
xrd.port {port}
oss.localroot {folder}/data
"""
_ORIGIN = f"""\
xrd.protocol http:{HTTP_PORT} libXrdHttp.so
http.desthttps no
http.selfhttps2http no
"""
_CACHE = f"""\
ofs.osslib libXrdPss.so
pss.cachelib libXrdPfc.so
pss.origin {FAR}:{ORIGIN_PORT}
pfc.ram 1g
pfc.blocksize 256k
pfc.prefetch 0
"""

T = TypeVar("T")


class Inside:
    """A thread of this process that lives in a network namespace."""

    def __init__(self, place: str) -> None:
        self.place = place
        self._threads = ThreadPoolExecutor(1, initializer=_enter, initargs=(place,))

    def call(self, work: Callable[[], T]) -> T:
        """Have it do something."""
        return self._threads.submit(work).result()

    def answers(self, host: str, port: int) -> bool:
        """Whether somebody listens there."""

        def ask() -> bool:
            with contextlib.suppress(OSError), socket.create_connection((host, port), 5):
                return True
            return False

        return self.call(ask)

    def close(self) -> None:
        """End it."""
        self._threads.shutdown()


def _enter(place: str) -> None:
    with Path(f"/run/netns/{place}").open("rb") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


class Ground:
    """Everything that stays while rows take their turns.

    Attributes
    ----------
    folder : Path
        Of this run alone.
    near, far : Inside
        The workers' end and the origin's.
    """

    def __init__(self, folder: Path, made: Link, stack: ExitStack) -> None:
        self.folder, self.link = folder, made
        self._stack = stack
        self.near, self.far = Inside(made.near), Inside(made.far)
        stack.callback(self.near.close)
        stack.callback(self.far.close)

    def start(
        self,
        inside: Inside,
        command: Sequence[object],
        at: tuple[str, int],
        environment: Mapping[str, str] | None = None,
    ) -> psutil.Popen:
        """Start a server at one end; it listens when this returns, and ends with the ground."""
        log = (self.folder / "servers.log").open("ab")
        process = psutil.Popen(
            [*self.link.enter(inside.place), *map(str, command)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
            env={**os.environ, "PYTHONPATH": python_path(), **(environment or {})},
        )  # fmt: skip
        log.close()
        self._stack.callback(end, process)
        until = time.monotonic() + START_S_MAX
        while not inside.answers(*at):
            if process.poll() is not None or time.monotonic() > until:
                raise CannotMeasureError(f"{command[0]} does not start; {self.tail()}")
            time.sleep(0.02)
        return process

    def tail(self) -> str:
        """Return what servers said last."""
        logs = sorted(self.folder.rglob("*.log"), key=lambda path: path.stat().st_mtime)
        return "".join(log.read_text(errors="replace")[-2000:] for log in logs[-2:])

    def _xrootd(self, inside: Inside, name: str, port: int, lines: str) -> psutil.Popen:
        folder = self.folder / name
        for part in ("admin", "data"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / "config").write_text(_XROOTD.format(folder=folder, port=port) + lines)
        owner = pwd.getpwnam(USER)
        for path in (folder, *folder.rglob("*")):
            os.chown(path, owner.pw_uid, owner.pw_gid)
        command = ["xrootd", "-c", folder / "config", "-R", USER, "-n", name]
        log = folder / "admin" / "xrootd.log"
        return self.start(inside, [*command, "-l", log], ("127.0.0.1", port))

    def serve_files(self, files: Sequence[Path]) -> None:
        """Start the origin."""
        data = self.folder / "origin" / "data"
        data.mkdir(parents=True)
        for path in files:
            shutil.copyfile(path, data / path.name)
        self._xrootd(self.far, "origin", ORIGIN_PORT, _ORIGIN)

    def empty_cache(self) -> psutil.Popen:
        """Start an XCache near the workers that holds nothing."""
        shutil.rmtree(self.folder / "cache", ignore_errors=True)
        return self._xrootd(self.near, "cache", CACHE_PORT, _CACHE)


def python_path() -> str:
    """Return where processes find this checkout."""
    return f"{REPOSITORY / 'src'}:{REPOSITORY}"


def end(process: psutil.Popen) -> None:
    """End a process that is not wanted any more."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except psutil.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def ground() -> Iterator[Ground]:
    """Make the two ends and the link between them."""
    for program, package in (("xrootd", "xrootd-server"), ("xrdcp", "xrootd-client")):
        if shutil.which(program) is None:
            raise CannotMeasureError(f"{program} is not installed: apt-get install {package}")
    for part in ("src", "bench"):
        # As an installed package is: not compiled anew at each start.
        compileall.compile_dir(REPOSITORY / part, quiet=1)
    with tempfile.TemporaryDirectory(prefix="evwan-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        made = stack.enter_context(link(build(folder)))
        place = Ground(folder, made, stack)
        serve = [sys.executable, "-m", "bench.wan_parts.floor", "serve", FAR, FLOOR_PORT]
        place.start(place.far, serve, (FAR, FLOOR_PORT))
        yield place
