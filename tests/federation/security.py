"""Who may do what in a federation: certificates, keys, and tokens that are renewed meanwhile."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.certificates import Authority
from tests.stack import wan, xrootd
from tests.stack.namespaces import Namespace

ORIGIN = "https://origin.test"
"""Whom the origin's tokens are for."""
HEADS = "https://heads.test"
TOKEN_LIFE_S = 40.0
"""Shorter than a test: whoever reads a token once is refused before the end."""


class TokenFiles:
    """Files of tokens, each replaced well before its token ends, as agents of people do it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[Path, tuple[Callable[[], str], int | None]] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def add(self, name: str, make: Callable[[], str], user: str = "") -> Path:
        """Write a token's file, for its user's eyes."""
        path = self._folder / name
        with self._lock:
            self._made[path] = make, pwd.getpwnam(user).pw_uid if user else None
            self._write(path)
        return path

    def _write(self, path: Path) -> None:
        make, owner = self._made[path]
        partial = path.with_suffix(".partial")
        partial.touch(0o600)
        partial.write_text(make())
        if owner is not None:
            os.chown(partial, owner, -1)
        partial.replace(path)

    def _run(self) -> None:
        while not self._stop.wait(TOKEN_LIFE_S / 4):
            with self._lock:
                for path in self._made:
                    self._write(path)

    def close(self) -> None:
        """Renew no more."""
        self._stop.set()
        self._thread.join()


class Security:
    """An authority, an issuer of tokens and what each part is given of them.

    Attributes
    ----------
    authority : Authority
    certificate, key : Path
        Of every server: they have one name, ``localhost``.
    tls : xrootd.Tls
        The same.
    tokens : xrootd.Tokens
        Whose tokens the origin takes.
    token_of_cache : Path
        File of what the XCache shows the origin.
    """

    def __init__(self, folder: Path, place: Namespace, parts: ExitStack) -> None:
        from tests.token_issuer import TokenIssuer

        self.authority = Authority(folder / "authority")
        self.certificate, self.key = self.authority.issue("server")
        self.tls = xrootd.Tls(self.certificate, self.key, self.authority.ca_file)
        self._issuer = parts.enter_context(TokenIssuer(self.authority))
        port = int(self._issuer.url.rpartition(":")[2])
        # By the same name from inside, where the origin asks for the issuer's keys.
        parts.enter_context(wan.link(("127.0.0.1", port), door=place.listen(port)))
        self.tokens = xrootd.Tokens(self._issuer.url, ORIGIN)
        self._files = TokenFiles(parts.enter_context(_open_folder()))
        parts.callback(self._files.close)
        self.token_of_cache = self._files.add("cache", self._reading, xrootd.USER)
        self._origin_token = self._files.add("origin", self._reading)

    @property
    def trust(self) -> dict[str, str]:
        """What lets evstream know our servers."""
        return {"EVSTREAM_CA_FILE": str(self.authority.ca_file)}

    @property
    def head(self) -> dict[str, str]:
        """What a head is told: whose tokens it takes, and what they open."""
        return {
            **self.source,
            "EVSTREAM_TOKEN_ISSUERS": self._issuer.url,
            "EVSTREAM_TOKEN_AUDIENCE": HEADS,
            "EVSTREAM_TOKEN_ROLES": "group:/evstream/pilots=pilot subject:the-far-edge=edge:far",
        }

    @property
    def source(self) -> dict[str, str]:
        """What lets XRootD's client into the origin."""
        return {
            **self.trust,
            "X509_CERT_FILE": str(self.authority.ca_file),
            "BEARER_TOKEN_FILE": str(self._origin_token),
        }

    def show(self, name: str, **claims: object) -> dict[str, str]:
        """Return what lets a client show the heads a token of its own."""
        made = self._files.add(name, lambda: self._token(HEADS, **claims))
        return {"EVSTREAM_TOKEN_FILE": str(made)}

    def for_origin(self, name: str, scope: str) -> Path:
        """Return the file of a token for the origin."""
        return self._files.add(name, lambda: self._token(ORIGIN, scope=scope))

    def _reading(self) -> str:
        return self._token(ORIGIN, scope="storage.read:/")

    def _token(self, audience: str, **claims: object) -> str:
        return self._issuer.token(aud=audience, exp=int(time.time() + TOKEN_LIFE_S), **claims)


@contextmanager
def _open_folder() -> Iterator[Path]:
    # Not a test's own folder: the servers' user may not walk through its parents.
    folder = Path(tempfile.mkdtemp(prefix="evtokens-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
