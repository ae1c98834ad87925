"""XRootD servers of the test's own: an origin, and a cache in front of one."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.stack.namespaces import Namespace
from tests.stack.processes import Daemon, answers

USER = "nobody"
"""The server refuses to be root's."""
ROOT_PORT = 1094
HTTP_PORT = 8080
MACHINE_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"

_COMMON = """\
all.export /
all.adminpath {folder}/admin
all.pidpath {folder}/admin
xrd.port {root_port}
xrd.protocol http:{http_port} libXrdHttp.so
xrootd.async off
http.desthttps no
http.selfhttps2http no
"""
_ORIGIN = """\
oss.localroot {folder}/data
xrootd.chksum max 4 adler32 crc32c md5
"""
_CACHE = """\
ofs.osslib libXrdPss.so
pss.cachelib libXrdPfc.so
pss.origin {origin}
pss.setopt ConnectTimeout 5
pss.setopt RequestTimeout 60
pss.setopt StreamTimeout 60
pss.setopt ConnectionRetry 3
pfc.ram 1g
pfc.blocksize 256k
pfc.prefetch 0
oss.localroot {folder}/data
"""


@dataclass(frozen=True, slots=True)
class Tls:
    """What a server shows, and the tokens that it takes.

    Attributes
    ----------
    certificate, key, authorities : Path
        PEM files; the last one holds the authorities that sign.
    """

    certificate: Path
    key: Path
    authorities: Path


@dataclass(frozen=True, slots=True)
class Tokens:
    """Who issues the tokens that a server takes, and for whom they must be."""

    issuer: str
    audience: str


def skip_without_xrootd() -> None:
    """Skip the test where no server can be started."""
    if shutil.which("xrootd") is None:
        pytest.skip(
            "no XRootD server is installed (as root: apt-get install xrootd-server"
            " xrootd-server-plugins xrootd-scitokens-plugins)"
        )
    if not any(user.pw_name == USER for user in pwd.getpwall()):
        pytest.skip(f"a server does not run as root, and there is no user {USER}")


def skip_without_http_plugin() -> None:
    """Skip the test where a cache cannot have an origin of HTTP."""
    if not any(Path("/usr/lib").glob("*/libXrdClHttp-5.so")):
        pytest.skip(
            "XRootD's client reads no HTTP (as root: apt-get install xrootd-client-http-plugins)"
        )


class XrootdServer(Daemon):
    """A server of files under ``data``, by root:// and HTTP.

    Attributes
    ----------
    data : Path
        What it serves, or has cached. Put files there by `add`.
    """

    def __init__(
        self,
        place: Namespace,
        folder: Path,
        lines: str,
        ports: tuple[int, int],
        authorities: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.data = folder / "data"
        self._host = place.address
        self._root_port, self._http_port = ports
        self._secure = "xrd.tls " in lines
        for name in ("admin", "data"):
            (folder / name).mkdir()
        text = lines.format(folder=folder, root_port=ports[0], http_port=ports[1])
        (folder / "config").write_text(text)
        self._owner = pwd.getpwnam(USER)
        for path in (folder, *folder.rglob("*")):
            os.chown(path, self._owner.pw_uid, self._owner.pw_gid)
        # Its own log file: it turns the console's output into a file of another name otherwise.
        command: Sequence[str | Path] = [
            *place.enter,
            *(_trusting(authorities) if authorities else ()),
            "xrootd",
            *("-c", folder / "config", "-R", USER, "-n", f"evstream{ports[0]}"),
            *("-l", folder / "admin" / "xrootd.log"),
        ]
        # Where the plugin for tokens keeps the issuers' keys.
        mine = {"XDG_CACHE_HOME": str(folder / "admin"), **(environment or {})}
        super().__init__(command, folder / "output.log", self._serves, mine, folder)
        self._folder = folder

    def _serves(self) -> bool:
        return answers(self._host, self._root_port) and answers(self._host, self._http_port)

    def tail(self) -> str:
        """Return the end of its log."""
        logs = sorted(self._folder.glob("admin/**/xrootd.log"))
        return super().tail() + "".join(log.read_text(errors="replace")[-4000:] for log in logs)

    @property
    def root_url(self) -> str:
        """What a path, with its slash, is put behind.

        Where the server speaks nothing but TLS, clients are told so, and do.
        """
        return f"root://{self._host}:{self._root_port}/"

    @property
    def http_url(self) -> str:
        """What a path, with its slash, is put behind."""
        return f"http{'s' if self._secure else ''}://{self._host}:{self._http_port}"

    @property
    def host(self) -> str:
        """Address and port of root://."""
        return f"{self._host}:{self._root_port}"

    def add(self, path: Path, name: str) -> None:
        """Copy a file into what is served, under a name that begins with a slash."""
        there = self.data / name.lstrip("/")
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, there)
        self._own(there)

    def make_folder(self, name: str) -> None:
        """Make a folder in what is served, under a name that begins with a slash."""
        there = self.data / name.lstrip("/")
        there.mkdir(parents=True, exist_ok=True)
        self._own(there)

    def _own(self, there: Path) -> None:
        for one in (there, *there.parents):
            if one == self._folder:
                break
            os.chown(one, self._owner.pw_uid, self._owner.pw_gid)


def _secured(folder: Path, tls: Tls | None, tokens: Tokens | None) -> str:
    """Return the lines by which a server speaks TLS and asks for tokens."""
    lines = ""
    if tls is not None:
        for name, path in (("cert", tls.certificate), ("key", tls.key), ("ca", tls.authorities)):
            shutil.copyfile(path, folder / f"{name}.pem")
            (folder / f"{name}.pem").chmod(0o400 if name == "key" else 0o444)
        lines += f"xrd.tls {folder}/cert.pem {folder}/key.pem\n"
        # Clients show tokens, no certificates.
        lines += f"xrd.tlsca certfile {folder}/ca.pem\nxrootd.tls all\nhttp.tlsclientauth off\n"
    if tokens is not None:
        (folder / "scitokens.cfg").write_text(
            f"[Global]\naudience = {tokens.audience}\nonmissing = deny\n"
            f"[Issuer evstream]\nissuer = {tokens.issuer}\nbase_path = /\nmap_subject = False\n"
            f"default_user = {USER}\n"
        )
        lines += (
            "ofs.authorize 1\n"
            f"ofs.authlib libXrdAccSciTokens.so config={folder}/scitokens.cfg\n"
            "http.header2cgi Authorization authz\n"
            "xrootd.seclib libXrdSec.so\n"
            "sec.protocol ztn\n"
            "sec.protbind * only ztn\n"
        )
    return lines


def _trusting(authorities: Path) -> list[str]:
    """Return the words before a command that make it trust these, where the library has no setting.

    The machine's own file stays what it is: the command alone sees another one in its place.
    """
    script = f'mount --bind "$0" {MACHINE_AUTHORITIES} && exec "$@"'
    return ["unshare", "--mount", "--propagation=private", "sh", "-c", script, str(authorities)]


@contextmanager
def _served(server: XrootdServer) -> Iterator[XrootdServer]:
    try:
        server.start()
        yield server
    finally:
        server.kill()


@contextmanager
def _folder() -> Iterator[Path]:
    # Not a test's own folder: the server's user may not walk through its parents.
    folder = Path(tempfile.mkdtemp(prefix="evxrd-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def origin(
    place: Namespace,
    tls: Tls | None = None,
    tokens: Tokens | None = None,
    ports: tuple[int, int] = (ROOT_PORT, HTTP_PORT),
    more: str = "",
) -> Iterator[XrootdServer]:
    """Start a server of files in a namespace; it ends with the context. Skips where there is none.

    ``more`` are lines of its configuration. The issuer of tokens is trusted by the same
    authorities as the server itself.
    """
    skip_without_xrootd()
    authorities = tls.authorities if tls is not None and tokens is not None else None
    with _folder() as folder:
        lines = _COMMON + _ORIGIN + _secured(folder, tls, tokens) + more
        with _served(XrootdServer(place, folder, lines, ports, authorities)) as server:
            yield server


@contextmanager
def cache(
    place: Namespace,
    of: str,
    tls: Tls | None = None,
    token: Path | None = None,
    ports: tuple[int, int] = (ROOT_PORT + 1, HTTP_PORT + 1),
) -> Iterator[XrootdServer]:
    """Start an XCache in front of an origin, HOST:PORT or a URL; it ends with the context.

    Parameters
    ----------
    tls : Tls, optional
        What it shows; by the same authorities it knows its origin.
    token : Path, optional
        File of the token that it shows its origin; the server's user reads it.
    """
    skip_without_xrootd()
    with _folder() as folder:
        lines = _COMMON + _CACHE.replace("{origin}", of) + _secured(folder, tls, None)
        environment = {}
        if tls is not None:
            # XRootD 5.5 as a client looks for authorities by their hash, and nowhere else.
            known = folder / "authorities"
            known.mkdir()
            shutil.copy(tls.authorities, known / "ca.pem")
            subprocess.run(["openssl", "rehash", known], check=True)
            environment["X509_CERT_DIR"] = str(known)
        if token is not None:
            environment["BEARER_TOKEN_FILE"] = str(token)
        with _served(XrootdServer(place, folder, lines, ports, None, environment)) as server:
            yield server
