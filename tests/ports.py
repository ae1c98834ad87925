"""Ports for servers that have to be told theirs."""

from __future__ import annotations

import random
import socket

FIRST, BEHIND = 20_000, 32_000
"""Below those that systems take for connections that go out: between the moment in which a port is
found free and the one in which a server listens there, nobody else is given it by chance."""
_TRIES = 1000
_RANDOM = random.SystemRandom()


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that nobody had a moment ago."""
    for _ in range(_TRIES):
        port = _RANDOM.randrange(FIRST, BEHIND)
        with socket.socket() as probe:
            # As servers do, who start again where connections have just ended.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise AssertionError(f"no port of {host} from {FIRST} to {BEHIND} is free")
