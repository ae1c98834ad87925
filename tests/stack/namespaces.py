"""A network namespace for servers that listen on every address they find."""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

TRIES = 200
CLONE_NEWNET = 0x40000000


@dataclass(frozen=True, slots=True)
class Namespace:
    """A place with a network of its own, which this machine alone reaches.

    Attributes
    ----------
    address : str
        Inside; processes of the machine connect to it.
    outside : str
        The machine's, as the inside sees it.
    """

    name: str
    address: str
    outside: str

    def listen(self, port: int) -> socket.socket:
        """Return a socket of this process that listens at a loopback port of the inside."""
        made: list[socket.socket] = []

        def make() -> None:
            # Threads have a network each; a socket stays where it was made.
            with Path(f"/run/netns/{self.name}").open("rb") as place:
                if ctypes.CDLL(None, use_errno=True).setns(place.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            door = socket.socket()
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            door.bind(("127.0.0.1", port))
            door.listen(64)
            made.append(door)

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        return made[0]

    @property
    def enter(self) -> list[str]:
        """The words before a command that make it run inside."""
        return ["ip", "netns", "exec", self.name]


def skip_without_namespaces() -> None:
    """Skip the test where no namespace can be made."""
    if os.geteuid() != 0:
        pytest.skip("only root makes network namespaces")
    if shutil.which("ip") is None:
        pytest.skip("no ip command (as root: apt-get install iproute2)")
    probe = f"evprobe{os.getpid()}"
    made = _ip("netns", "add", probe)
    if made.returncode:
        pytest.skip(f"no network namespaces here: {made.stderr.strip()}")
    _ip("netns", "del", probe)


def _ip(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *words], capture_output=True, text=True, timeout=30, check=False)


def _must(*words: str) -> None:
    done = _ip(*words)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


@contextmanager
def namespace() -> Iterator[Namespace]:
    """Make a namespace with a link to it; both go with the context. Skips where that cannot be."""
    skip_without_namespaces()
    place = _make()
    try:
        yield place
    finally:
        # Both ends go at once; with the namespace, they would go some time later.
        _ip("link", "del", f"evo{place.name.removeprefix('ev-')}")
        _ip("netns", "del", place.name)


def _make() -> Namespace:
    taken = _ip("-4", "-o", "addr", "show").stdout
    for number in random.sample(range(64 * 256), TRIES):
        high, low = divmod(number, 256)
        net = f"10.{192 + high}.{low}"
        name, outer, inner = f"ev-{high}-{low}", f"evo{high}-{low}", f"evi{high}-{low}"
        # Making it fails where somebody else has just made the same.
        if f" {net}." in taken or _ip("netns", "add", name).returncode:
            continue
        try:
            _must("link", "add", outer, "type", "veth", "peer", "name", inner, "netns", name)
            _must("addr", "add", f"{net}.1/30", "dev", outer)
            _must("link", "set", outer, "up")
            _must("-n", name, "addr", "add", f"{net}.2/30", "dev", inner)
            _must("-n", name, "link", "set", inner, "up")
            _must("-n", name, "link", "set", "lo", "up")
        except AssertionError as problem:
            _ip("netns", "del", name)
            pytest.skip(f"no links between network namespaces here: {problem}")
        return Namespace(name, f"{net}.2", f"{net}.1")
    raise AssertionError("no free network of 10.192.0.0/10 found")
