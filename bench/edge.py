"""What an edge serves for a second of its CPU, beside nginx; and what a cold product costs."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import random
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import uproot

from bench.edge_parts import overload
from bench.harness import Bench

CLUSTER = 1 << 20
SMALL_ENTRIES = 12_400
"""Some 100 kB."""
CLIENTS = 500
PROCESS_CPU = 2
"""The clock of a process in the kernel's numbers (CPUCLOCK_SCHED)."""
START_S_MAX = 120.0
SUBJECTS = {
    "edge": "edge",
    "edge-tls": "edge TLS",
    "front": "nginx before edge",
    "plain": "nginx",
    "tls": "nginx TLS",
}

NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 2048; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; keepalive_timeout 1h;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  upstream edge {{ server 127.0.0.1:{edge}; keepalive 4; }}
  server {{ listen 127.0.0.1:{plain}; root {folder}/www; }}
  server {{
    listen 127.0.0.1:{tls} ssl; root {folder}/www;
    ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;
  }}
  server {{
    listen 127.0.0.1:{front};
    location / {{
      proxy_pass http://edge; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header X-Sendfile-Type X-Accel-Redirect;
    }}
    location /kept/ {{
      internal; alias {folder}/cache-plain/; etag off; add_header ETag $upstream_http_etag;
    }}
  }}
}}
"""


def free_port() -> int:
    """Return a port that nobody listens at; clients are not given those of this range either."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as door, contextlib.suppress(OSError):
            door.bind(("127.0.0.1", port))
            return port


@contextmanager
def running(command: list[str], port: int) -> Iterator[psutil.Process]:
    """Run a server until the context ends; it listens when this yields."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        until = time.monotonic() + START_S_MAX
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{command[0]} does not start")
            time.sleep(0.05)
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def cpu_s(processes: list[psutil.Process]) -> float:
    """Return the CPU seconds that servers and their children have spent."""
    total = 0.0
    for process in processes:
        for one in (process, *process.children(recursive=True)):
            # Its clock in the kernel, in nanoseconds: what psutil tells goes in steps of 10 ms.
            total += time.clock_gettime((~one.pid << 3) | PROCESS_CPU)
    return total


class Client:
    """One connection that is kept."""

    def __init__(self, port: int, *, tls: bool = False) -> None:
        if tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self._connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                "127.0.0.1", port, context=context, timeout=300
            )
        else:
            self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        self._buffer = bytearray(1 << 20)

    def get(self, path: str) -> int:
        """Read all of a path; return its bytes."""
        self._connection.request("GET", path)
        response = self._connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"{path}: {response.status}")
        total = 0
        while got := response.readinto(self._buffer):
            total += got
        return total

    def first_byte_s(self, path: str) -> float:
        """Return how long a path's first byte takes; the rest is not read."""
        started = time.perf_counter()
        self._connection.request("GET", path)
        self._connection.getresponse().read(1)
        taken = time.perf_counter() - started
        self._connection.close()
        return taken

    def text(self, path: str) -> str:
        """Return a short answer."""
        self._connection.request("GET", path)
        return self._connection.getresponse().read().decode()


def write_source(path: Path, clusters: int) -> None:
    """Write a tree of doubles that do not compress, in clusters of 8 MiB."""
    rng = np.random.default_rng(1)
    with uproot.recreate(path, compression=None) as file:
        tree = file.mktree("Events", {"x": "float64"})
        for _ in range(clusters):
            tree.extend({"x": rng.random(CLUSTER)})


def per_cpu_s(
    client: Client, path: str, servers: list[psutil.Process], times: int, *, requests: bool
) -> Callable[[], float]:
    """Return what measures megabytes, or requests, for each CPU second of servers."""

    def run() -> float:
        before, got = cpu_s(servers), 0
        for _ in range(times):
            got += client.get(path)
        spent = cpu_s(servers) - before
        return times / spent if requests else got / 1e6 / spent

    return run


def measure_warm(bench: Bench, folder: Path, ports: dict[str, int], tls: list[str]) -> None:
    """Compare the edge with nginx, plain and TLS, and nginx before the edge with nginx."""
    clusters = bench.choose("clusters of 8 MiB", full=32, quick=4)
    times = bench.choose("transfers a round", full=40, quick=4)
    small_times = bench.choose("small requests a round", full=3000, quick=500)
    rounds = bench.choose("rounds", full=5, quick=2)
    spans = f"0-{clusters * CLUSTER}", f"100-{100 + SMALL_ENTRIES}"
    source = folder / "source.root"
    server = [sys.executable, "-m", "bench.edge_parts.server", str(source)]
    plain = [*server, str(folder / "cache-plain"), str(ports["edge"]), "/kept/"]
    secure = [*server, str(folder / "cache-tls"), str(ports["edge-tls"]), "", *tls]
    nginx = ["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)]
    with (
        running(plain, ports["edge"]) as edge,
        running(secure, ports["edge-tls"]) as edge_tls,
        running(nginx, ports["plain"]) as front,
    ):
        clients = {name: Client(port, tls=name.endswith("tls")) for name, port in ports.items()}
        # Keys of one secret, so that a URL is good at both.
        large, small = (clients["edge"].text(f"/url/{span}") for span in spans)
        for name in ("edge", "edge-tls"):
            for path in (large, small):
                clients[name].get(path)
            while clients[name].text("/counts").split()[1] != "2":
                time.sleep(0.05)
        servers = {"edge": [edge], "edge-tls": [edge_tls], "front": [front, edge]}
        nginxes = {"plain": [front], "tls": [front]}
        subjects: dict[str, Callable[[], float | None]] = {}
        for name, processes in {**servers, **nginxes}.items():
            paths = ("/large", "/small") if name in nginxes else (large, small)
            subjects[f"{name} MB"] = per_cpu_s(
                clients[name], paths[0], processes, times, requests=False
            )
            subjects[f"{name} requests"] = per_cpu_s(
                clients[name], paths[1], processes, small_times, requests=True
            )
        found = bench.interleave(subjects, rounds)
    for name, samples in found.items():
        unit = "MB/CPU-s" if name.endswith("MB") else "1/CPU-s"
        subject, what = name.split()
        bench.measure(f"{SUBJECTS[subject]} {what}", samples, unit)
    for name, about in (("edge", "plain"), ("edge-tls", "TLS")):
        median = found[f"{name} MB"].median
        bench.ask(f"warm products, {about}: MB per CPU second", median, ">=", 1000)
        median = found[f"{name} requests"].median
        bench.ask(f"products of 100 kB, {about}: requests per CPU second", median, ">=", 1500)
        beside = found[f"{'tls' if about == 'TLS' else 'plain'} MB"].median
        bench.measure(f"edge {about}, of nginx's MB", found[f"{name} MB"].median / beside, "1")
    ratio = found["front MB"].median / found["plain MB"].median
    bench.ask("through nginx, of nginx's own bytes per CPU second", ratio, ">=", 0.8)


def measure_cold(bench: Bench, folder: Path) -> None:
    """Count what 500 clients at once cost the source, and time the first byte."""
    source, port = folder / "source.root", free_port()
    server = [sys.executable, "-m", "bench.edge_parts.server", str(source)]
    with running([*server, str(folder / "cache-cold"), str(port), ""], port):
        client = Client(port)
        before = int(client.text("/counts").split()[0])
        sizes: list[int] = []
        clusters = bench.choose("clusters of the product that 500 ask for", full=2, quick=1)
        url = client.text(f"/url/0-{clusters * CLUSTER}")

        def ask() -> None:
            sizes.append(Client(port).get(url))

        threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        size = sizes[0]
        if sizes != [size] * CLIENTS:
            raise RuntimeError("not everybody got all of it")
        read = (int(client.text("/counts").split()[0]) - before) / size
        bench.measure("bytes of the source for each of the product", read, "1")
        bench.ask(
            "500 clients on one cold product: times that the source was read", read, "<=", 1.1
        )
        firsts = [
            Client(port).first_byte_s(
                client.text(f"/url/{start * CLUSTER}-{(start + 2) * CLUSTER}")
            )
            for start in range(1, bench.choose("cold products", full=16, quick=3))
        ]
        first = statistics.median(firsts) * 1000
        bench.measure("first byte of a cold aligned product, median", first, "ms")
        bench.ask("first byte of a cold aligned product, ms", first, "<=", 50)


def measure_overload(bench: Bench) -> None:
    """Ask for ten times what the edge can make for those who wait."""
    seconds = float(bench.choose("seconds of overload a round", full=10, quick=3))
    rounds = bench.choose("rounds of overload", full=5, quick=1)
    turns = asyncio.run(overload.measure(seconds, rounds))
    bench.report("rounds of overload", [str(turn) for turn in turns])
    for who, beside in (
        ("", [turn.by_pool for turn in turns]),
        (", each on a new connection", [turn.by_strangers for turn in turns]),
    ):
        found = overload.middle(beside)
        refused_ms, kept = found["refused_ms"], found["kept"]
        bench.measure(f"refusals under overload{who}, 95th percentile", refused_ms, "ms")
        bench.measure(f"lateness of who asks{who}, 95th percentile", found["late_ms"], "ms")
        bench.measure(f"prepared work beside overload{who}, of its share", kept, "1")
        cpu_kept = found["cpu_kept"]
        bench.measure(f"the same for each CPU second of the edge{who}", cpu_kept, "1")
        bench.ask(f"refusals under overload{who}, 95th percentile, ms", refused_ms, "<=", 20)
        bench.ask(f"prepared work beside overload{who}, of its share", kept, ">=", 0.95)


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--only", choices=["overload"])
    given, words = parser.parse_known_args()
    # A part is a look: it is kept apart from the results of the whole.
    name = f"edge-{given.only}" if given.only else "edge"
    bench = Bench.from_command_line(name, __doc__, words)
    if given.only:
        bench.ready()
        measure_overload(bench)
        return bench.finish()
    if shutil.which("nginx") is None:
        bench.console.print("nginx is not installed (as root: apt-get install nginx)")
        return 2
    with tempfile.TemporaryDirectory(prefix="evedge-") as name:
        folder = Path(name)
        # nginx's worker is another user.
        folder.chmod(0o755)
        write_source(folder / "source.root", 4 if bench.quick else 32)
        key, cert = str(folder / "key.pem"), str(folder / "cert.pem")
        words = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
        subprocess.run(
            ["openssl", "req", *words, "-keyout", key, "-out", cert],
            check=True,
            capture_output=True,
        )
        ports = {each: free_port() for each in ("edge", "edge-tls", "plain", "tls", "front")}
        www = folder / "www"
        www.mkdir()
        rng = np.random.default_rng(2)
        (www / "large").write_bytes(rng.bytes((folder / "source.root").stat().st_size))
        (www / "small").write_bytes(rng.bytes(100_000))
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, **ports))
        bench.ready()
        measure_cold(bench, folder)
        measure_warm(bench, folder, ports, [cert, key])
    measure_overload(bench)
    return bench.finish()


if __name__ == "__main__":
    sys.exit(main())
