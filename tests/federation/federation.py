"""A federation on one machine: real parts, several heads and edges, and what can befall them."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from subprocess import Popen
from typing import Any

from tests.postgresql import server
from tests.s3_gateway import gateway
from tests.spine.commands import CommandLine
from tests.stack import nginx, wan, xrootd
from tests.stack.namespaces import namespace
from tests.stack.processes import free_port, wait_until

EDGES = ("disk", "s3", "far")
ROUND_TRIP_S = 0.04
LINK_BYTES_PER_S = 30e6
QUICK = {
    # What takes a minute where nobody waits for it takes a second here.
    "EVSTREAM_BEAT_S": "0.5",
    "EVSTREAM_LEASE_S": "8",
    "EVSTREAM_EXPIRE_EVERY_S": "0.5",
    "EVSTREAM_SWEEP_EVERY_S": "5",
}


class Federation:
    """Heads behind a balancer, edges of three kinds, and an origin with a cache in front.

    Attributes
    ----------
    origin, cache : XrootdServer
    far_link : Wan
        Between everybody and the edge that is far away.
    url : str
        Of the heads, behind nginx.
    token : str
        What opens them to their owner.
    """

    def __init__(self, folder: Path, parts: ExitStack, heads: int = 2) -> None:
        self.folder = folder
        self._line = CommandLine(folder)
        parts.callback(self._line.end_all)
        self._place = parts.enter_context(namespace())
        self.origin = parts.enter_context(xrootd.origin(self._place))
        self.cache = parts.enter_context(xrootd.cache(self._place, self.origin.host))
        self._gateway = parts.enter_context(gateway())
        self._database = parts.enter_context(server()).new_database()
        self._ports = {f"head{number}": free_port() for number in range(heads)}
        self._ports |= {name: free_port() for name in EDGES}
        balancer = free_port()
        self.url = f"http://127.0.0.1:{balancer}"
        self._processes: dict[str, Popen[bytes]] = {}
        for name in [name for name in self._ports if name.startswith("head")]:
            self.start_head(name)
        self.token = (folder / "head0" / "token").read_text()
        servers = [
            f"127.0.0.1:{port}" for name, port in self._ports.items() if name.startswith("head")
        ]
        parts.enter_context(nginx.nginx(nginx.balancer(balancer, servers), balancer))
        far = wan.Conditions(ROUND_TRIP_S / 2, LINK_BYTES_PER_S)
        self.far_link = parts.enter_context(wan.link(("127.0.0.1", self._ports["far"]), far))
        for name in EDGES:
            self.start_edge(name)
        self.wait_for_edges(set(EDGES))

    # --- processes --------------------------------------------------------------------

    def start_head(self, name: str) -> None:
        """Start a head; those after the first are given its keys and its token."""
        data, first = self.folder / name, self.folder / "head0"
        if name != "head0" and not data.exists():
            data.mkdir(mode=0o700)
            shutil.copytree(first / "keys", data / "keys")
            shutil.copy(first / "token", data / "token")
        words = ("head", "--data", data, "--catalogue", self._database)
        settings = QUICK | {"EVSTREAM_OUTPUTS_DIR": str(self.folder / "outputs")}
        self._start(name, *words, **settings)

    def start_edge(self, name: str) -> None:
        """Start an edge, which joins."""
        words = ("edge", "--head", self.url, "--name", name, "--data", self.folder / name)
        more: tuple[str, ...] = ()
        environment = dict(QUICK)
        if name == "far":
            more = ("--url", f"http://{self.far_link.address}")
        elif name == "s3":
            more = ("--cache", f"{self._gateway.url}/products")
            environment |= self._gateway.environment
        self._start(name, *words, *more, "--token", self.token, **environment)

    def _start(self, name: str, *words: object, **environment: str) -> None:
        port, published = self._ports[name], self.folder / name / "address.json"
        # One that was killed has left its own.
        published.unlink(missing_ok=True)
        # The origin is at an address that nobody else is to be led to by the name of a source.
        environment["EVSTREAM_SOURCE_NETWORKS"] = f"{self._place.address}/32"
        process = self._line.start(*words, "--port", port, **environment)
        self._processes[name] = process
        wait_until(lambda: process.poll() is not None or published.exists(), f"{name} to start")
        assert process.poll() is None, f"{name} ended:\n{self.logs()}"

    def pilot(self, name: str) -> Popen[bytes]:
        """Start a pilot that works until nothing is left."""
        words = ("--url", self.url, "--token", self.token, "--worker", name)
        return self._line.start("pilot", *words, "--cores", 1, **QUICK)

    def kill(self, name: str) -> None:
        """End a head or an edge without a word of warning."""
        self._line.end(self._processes.pop(name))

    def wipe(self, edge: str) -> None:
        """Throw away what is on an edge's disk, while it runs."""
        shutil.rmtree(self.folder / edge, ignore_errors=True)

    def logs(self) -> str:
        """Return the end of what each process has said."""
        ends = [
            f"--- {log.name}\n{log.read_text(errors='replace')[-1500:]}"
            for log in sorted(self.folder.glob("process*.log"))
        ]
        return "\n".join(ends)

    def addresses(self) -> dict[str, str]:
        """Return where each part is."""
        return {
            "heads, by nginx": self.url,
            **{
                name: f"http://127.0.0.1:{port}"
                for name, port in self._ports.items()
                if name.startswith("head")
            },
            **{f"edge {name}": f"http://127.0.0.1:{self._ports[name]}" for name in EDGES},
            "edge far, by WAN": f"http://{self.far_link.address}",
            "XRootD origin": f"{self.origin.root_url}  {self.origin.http_url}",
            "XCache": f"{self.cache.root_url}  {self.cache.http_url}",
            "S3 gateway": f"{self._gateway.url} at {self._gateway.endpoint}",
            "PostgreSQL": self._database,
            "folder": str(self.folder),
        }

    # --- what is asked ----------------------------------------------------------------

    def ask(self, path: str) -> Any:
        """Return what the heads answer a GET; None while they do not."""
        request = urllib.request.Request(
            self.url + path, headers={"Authorization": f"Bearer {self.token}"}
        )
        with (
            suppress(urllib.error.URLError, OSError),
            urllib.request.urlopen(request, timeout=10) as answer,
        ):
            return json.load(answer)
        return None

    def run(self, *words: object) -> str:
        """Run a command at the heads; return what it printed."""
        return self._line.run(*words, "--url", self.url, "--token", self.token).stdout

    def json(self, *words: object) -> Any:
        """Run a command at the heads; return what it printed as JSON."""
        return json.loads(self.run(*words, "--json"))

    def verify(self, receipt: Path) -> Any:
        """Return what `evstream verify` finds, which asks nobody."""
        return self._line.json("verify", receipt)

    def wait_for_edges(self, names: set[str]) -> None:
        """Wait until the heads know these edges."""
        wait_until(
            lambda: (
                names <= {one["name"] for one in (self.ask("/v1/edges") or {}).get("items", [])}
            ),
            f"edges {names}",
            tell=self.logs(),
        )

    def finished(self, task: int) -> tuple[str, int]:
        """Return the state of a task, and how many of its events are finished."""
        shown = self.ask(f"/v1/tasks/{task}")
        return ("", 0) if shown is None else (shown["state"], shown["process"]["finished"])


@contextmanager
def federation(folder: Path, heads: int = 2) -> Iterator[Federation]:
    """Start a federation; all of it ends with the context. Skips where a part lacks."""
    xrootd.skip_without_xrootd()
    nginx.skip_without_nginx()
    with ExitStack() as parts:
        yield Federation(folder, parts, heads)
