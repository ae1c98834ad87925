"""A federation on one machine: real parts, several heads and edges, and what can befall them."""

from __future__ import annotations

import json
import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any

from tests.federation.security import Security
from tests.ports import free_port
from tests.postgresql import server
from tests.s3_gateway import gateway
from tests.spine.commands import CommandLine
from tests.stack import nginx, wan, xrootd
from tests.stack.namespaces import namespace
from tests.stack.processes import wait_until

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
PILOT = {"EVSTREAM_PREFETCH_BYTES_MAX": str(1 << 20)}
"""Little is fetched ahead, so that what breaks breaks deliveries."""


class Federation:
    """Heads behind a balancer, edges of three kinds, and an origin with a cache in front.

    Attributes
    ----------
    origin, cache : XrootdServer
    far_link : Wan
        Between everybody and the edge that is far away.
    url : str
        Of the heads, behind nginx.
    origin_url, cache_url : str
        What the path of a source, with its slash, is put behind.
    token : str
        What opens them to their owner.
    security : Security or None
        With it every hop is TLS and the origin asks for tokens.
    """

    def __init__(
        self, folder: Path, parts: ExitStack, heads: int = 2, *, secure: bool = False
    ) -> None:
        self.folder = folder
        self._line = CommandLine(folder)
        parts.callback(self._line.end_all)
        self._place = parts.enter_context(namespace())
        self.security = Security(folder, self._place, parts) if secure else None
        self._context = ssl.create_default_context() if self.security else None
        if self.security and self._context:
            self._context.load_verify_locations(self.security.authority.ca_file)
        self._open_origin(parts)
        self._gateway = parts.enter_context(gateway())
        self._database = parts.enter_context(server()).new_database()
        self._ports = {f"head{number}": free_port() for number in range(heads)}
        self._ports |= {name: free_port() for name in EDGES}
        balancer = free_port()
        self._scheme = "https" if secure else "http"
        self.url = f"{self._scheme}://127.0.0.1:{balancer}"
        self._processes: dict[str, Popen[bytes]] = {}
        for name in [name for name in self._ports if name.startswith("head")]:
            self.start_head(name)
        self.token = (folder / "head0" / "token").read_text()
        servers = [
            f"127.0.0.1:{port}" for name, port in self._ports.items() if name.startswith("head")
        ]
        site = nginx.balancer(balancer, servers)
        if self.security:
            own = self.security.certificate, self.security.key
            site = nginx.balancer(balancer, servers, own, self.security.authority.ca_file)
        parts.enter_context(nginx.nginx(site, balancer))
        far = wan.Conditions(ROUND_TRIP_S / 2, LINK_BYTES_PER_S)
        self.far_link = parts.enter_context(wan.link(("127.0.0.1", self._ports["far"]), far))
        for name in EDGES:
            self.start_edge(name)
        self.wait_for_edges(set(EDGES))

    def _open_origin(self, parts: ExitStack) -> None:
        """Start the origin and the cache before it."""
        place, security = self._place, self.security
        if security is None:
            self.origin = parts.enter_context(xrootd.origin(place))
            self.cache = parts.enter_context(xrootd.cache(place, self.origin.host))
            self.origin_url, self.cache_url = self.origin.root_url, self.cache.root_url
            return
        self.origin = parts.enter_context(xrootd.origin(place, security.tls, security.tokens))
        # XRootD's client finds no addresses in certificates: both are reached by a name.
        of = f"localhost:{xrootd.ROOT_PORT}"
        self.cache = parts.enter_context(
            xrootd.cache(place, of, security.tls, security.token_of_cache)
        )
        urls = []
        for one in (self.origin, self.cache):
            host, port = one.host.split(":")
            link = parts.enter_context(wan.link((host, int(port))))
            urls.append(f"roots://localhost:{link.port}/")
        self.origin_url, self.cache_url = urls

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
        if self.security:
            settings |= self.security.head
        self._start(name, *words, **settings)

    def start_edge(self, name: str) -> None:
        """Start an edge, which joins."""
        words = ("edge", "--head", self.url, "--name", name, "--data", self.folder / name)
        more: tuple[str, ...] = ()
        environment = dict(QUICK)
        if name == "far":
            more = ("--url", f"{self._scheme}://{self.far_link.address}")
        elif name == "s3":
            more = ("--cache", f"{self._gateway.url}/products")
            environment |= self._gateway.environment
        if self.security:
            environment |= self.security.source
        self._start(name, *words, *more, **environment, **self._opens(name, "edge"))

    def _opens(self, name: str, role: str) -> dict[str, str]:
        """Return what lets a client in: the far edge and every other pilot show tokens.

        The others have keys; with nothing secured, all have the owner's token.
        """
        if self.security is None:
            return {"EVSTREAM_TOKEN": self.token}
        if name == "far":
            return self.security.show(name, sub="the-far-edge")
        if role == "pilot" and name.endswith(("1", "3")):
            return self.security.show(name, sub=name, **{"wlcg.groups": ["/evstream/pilots"]})
        of = ("--edge", name) if role == "edge" else ()
        return {"EVSTREAM_TOKEN": self.json("key", "create", name, "--role", role, *of)["key"]}

    def _start(self, name: str, *words: object, **environment: str) -> None:
        port, published = self._ports[name], self.folder / name / "address.json"
        # One that was killed has left its own.
        published.unlink(missing_ok=True)
        # The origin is at an address that nobody else is to be led to by the name of a source.
        environment["EVSTREAM_SOURCE_NETWORKS"] = f"{self._place.address}/32"
        if self.security:
            environment["EVSTREAM_SOURCE_NETWORKS"] = "127.0.0.0/8 ::1/128"
            words += ("--tls-cert", self.security.certificate, "--tls-key", self.security.key)
        process = self._line.start(*words, "--port", port, **environment)
        self._processes[name] = process
        wait_until(lambda: process.poll() is not None or published.exists(), f"{name} to start")
        assert process.poll() is None, f"{name} ended:\n{self.logs()}"

    def pilot(self, name: str) -> Popen[bytes]:
        """Start a pilot that works until nothing is left."""
        words = ("pilot", "--url", self.url, "--worker", name, "--cores", 1)
        environment = QUICK | self._trust | PILOT | self._opens(name, "pilot")
        process = self._line.start(*words, **environment)
        self._processes[name] = process
        return process

    @property
    def _trust(self) -> dict[str, str]:
        return self.security.trust if self.security else {}

    def kill(self, name: str) -> None:
        """End a head, an edge or a pilot without a word of warning."""
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
                name: f"{self._scheme}://127.0.0.1:{port}"
                for name, port in self._ports.items()
                if name.startswith("head")
            },
            **{f"edge {name}": f"{self._scheme}://127.0.0.1:{self._ports[name]}" for name in EDGES},
            "edge far, by WAN": f"{self._scheme}://{self.far_link.address}",
            "XRootD origin": f"{self.origin_url}  {self.origin.http_url}",
            "XCache": f"{self.cache_url}  {self.cache.http_url}",
            **({"token issuer": self.security.tokens.issuer} if self.security else {}),
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
        try:
            with urllib.request.urlopen(request, timeout=10, context=self._context) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as refused:
            refused.close()
        except OSError:
            pass
        return None

    def run(self, *words: object) -> str:
        """Run a command at the heads; return what it printed."""
        # A token may begin with a dash.
        door = ("--url", self.url, f"--token={self.token}")
        return self._line.run(*words, *door, env=self._trust).stdout

    def json(self, *words: object) -> Any:
        """Run a command at the heads; return what it printed as JSON."""
        return json.loads(self.run(*words, "--json"))

    def verify(self, receipt: Path) -> Any:
        """Return what `evstream verify` finds, which asks nobody."""
        return self._line.json("verify", receipt)

    def failures(self, task: int) -> list[Any]:
        """Return the attempts at a task that came to nothing."""
        found: list[Any] = self.ask(f"/v1/tasks/{task}/failures?limit=1000")["items"]
        return found

    def said(self, what: str) -> int:
        """Return how often a process has said something."""
        logs = self.folder.glob("process*.log")
        return sum(log.read_text(errors="replace").count(what) for log in logs)

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
def federation(folder: Path, heads: int = 2, *, secure: bool = False) -> Iterator[Federation]:
    """Start a federation; all of it ends with the context. Skips where a part lacks."""
    xrootd.skip_without_xrootd()
    nginx.skip_without_nginx()
    with ExitStack() as parts:
        yield Federation(folder, parts, heads, secure=secure)
