"""An HTTP proxy of the CONNECT kind, in threads: it alone knows where names lead."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class ConnectProxy(socketserver.ThreadingTCPServer):
    """Joins connections.

    Attributes
    ----------
    ports : dict of str to int
        Of this machine, by the name that is asked for; other names are refused.
    asked : list of str
        The first line of each request, without its version.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, ports: dict[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _Joined)
        self.ports = ports
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Joined(socketserver.BaseRequestHandler):
    """One connection."""

    def handle(self) -> None:
        assert isinstance(self.server, ConnectProxy)
        head = b""
        while b"\r\n\r\n" not in head:
            if not (piece := self.request.recv(4096)):
                return
            head += piece
        method, place, _ = head.split(b"\r\n")[0].decode().split()
        self.server.asked.append(f"{method} {place}")
        port = self.server.ports.get(place.rpartition(":")[0])
        if method != "CONNECT" or port is None:
            self.request.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            return
        with socket.create_connection(("127.0.0.1", port)) as there:
            self.request.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_pipe, args=(there, self.request), daemon=True)
            back.start()
            _pipe(self.request, there)
            back.join()


def _pipe(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(1 << 16):
            sink.sendall(piece)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


@contextmanager
def connect_proxy(ports: dict[str, int]) -> Iterator[ConnectProxy]:
    """Run a proxy for as long as it is needed."""
    with ConnectProxy(ports) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
