"""The floor: bytes that nobody looks at, copied over the link by several streams at once.

``python -m bench.wan_parts.floor serve HOST PORT`` sends to whoever asks; ``copy HOST PORT BYTES
STREAMS`` prints the seconds that so many bytes took, connections included; ``connect HOST PORT``
the seconds that a connection takes, a round trip.
"""

from __future__ import annotations

import socket
import sys
import threading
import time

PIECE = 1 << 18


def serve(host: str, port: int) -> None:
    """Send as many bytes as each client names, until the process is ended."""
    with socket.create_server((host, port), backlog=64) as door:
        print("ready", flush=True)
        while True:
            client, _ = door.accept()
            threading.Thread(target=_send, args=(client,), daemon=True).start()


def _send(client: socket.socket) -> None:
    with client:
        left = int.from_bytes(client.recv(8, socket.MSG_WAITALL), "big")
        zeros = memoryview(bytes(PIECE))
        while left:
            left -= client.send(zeros[: min(left, PIECE)])


def copy(host: str, port: int, size: int, streams: int) -> float:
    """Return the seconds until all of it is here."""
    shares = [size * (k + 1) // streams - size * k // streams for k in range(streams)]
    started = time.perf_counter()
    threads = [threading.Thread(target=_fetch, args=(host, port, share)) for share in shares]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started


def connect(host: str, port: int) -> float:
    """Return the seconds of a connection, the best of some."""
    taken = []
    for _ in range(5):
        started = time.perf_counter()
        with socket.create_connection((host, port)) as server:
            taken.append(time.perf_counter() - started)
            server.sendall(bytes(8))
    return min(taken)


def _fetch(host: str, port: int, size: int) -> None:
    buffer = bytearray(PIECE)
    with socket.create_connection((host, port)) as server:
        server.sendall(size.to_bytes(8, "big"))
        while size:
            size -= server.recv_into(buffer)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], int(sys.argv[3]))
    elif sys.argv[1] == "connect":
        print(connect(sys.argv[2], int(sys.argv[3])))
    else:
        print(copy(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])))
