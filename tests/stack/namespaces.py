"""A network namespace for servers that listen on every address they find."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

TRIES = 200


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
        # The link goes with the namespace that one of its ends is in.
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
