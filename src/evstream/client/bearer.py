"""The token that a client shows: found once, read again when its file changes.

Tokens of issuers live for minutes to hours, and something beside us renews their files; a pilot
or an edge runs for days. So the file is looked at before each request.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from evstream.domain.errors import ConfigError

TOKEN_BYTES_MAX = 64 << 10


class TokenFile:
    """A token in a file.

    Parameters
    ----------
    path : Path
        Holds the token and nothing else but white space around it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._token = ""

    def __call__(self) -> str:
        """Return the token as the file holds it now.

        Raises
        ------
        ConfigError
            The file cannot be read, or holds no token, and never did.
        """
        try:
            found = self._path.stat()
            seen = (found.st_mtime_ns, found.st_size, found.st_ino)
            if seen != self._seen:
                with self._path.open("rb") as file:
                    token = file.read(TOKEN_BYTES_MAX).decode("ascii").strip()
                if not token or any(character.isspace() for character in token):
                    raise ConfigError(
                        f"{self._path} holds no token",
                        hint="write one token into it, and nothing else",
                    )
                self._token, self._seen = token, seen
        except ConfigError:
            if not self._token:
                raise
        except (OSError, UnicodeDecodeError) as error:
            if not self._token:
                raise ConfigError(
                    f"the token in {self._path} cannot be read: {error}",
                    hint="renew it, or name another file (token_file, BEARER_TOKEN_FILE)",
                ) from error
        # Whoever renews it may be writing it just now: the last one is good for as long as it is.
        return self._token


def discovered(url: str, environment: Mapping[str, str] = os.environ) -> tuple[str, str]:
    """Return the token, or the file of one, that the environment has for a service.

    As WLCG's Bearer Token Discovery says: ``BEARER_TOKEN``, ``BEARER_TOKEN_FILE``,
    ``$XDG_RUNTIME_DIR/bt_u$ID``, ``/tmp/bt_u$ID``. Such a token is good elsewhere too, so it is
    shown to nobody who could be overheard: over TLS, or on this machine.

    Returns
    -------
    token, path : str
        Empty where there is none.
    """
    if not is_private(url):
        return "", ""
    if token := environment.get("BEARER_TOKEN", "").strip():
        return token, ""
    if path := environment.get("BEARER_TOKEN_FILE", ""):
        return "", path
    name = f"bt_u{os.geteuid()}"
    folders = (environment.get("XDG_RUNTIME_DIR", ""), "/tmp")  # noqa: S108 - as the profile says
    for folder in filter(None, folders):
        place = Path(folder) / name
        if _is_ours(place):
            return "", str(place)
    return "", ""


def _is_ours(path: Path) -> bool:
    # Anybody may put a file into /tmp.
    try:
        found = path.lstat()
    except OSError:
        return False
    return found.st_uid == os.geteuid()


def is_private(url: str) -> bool:
    """Whether what is sent to a URL can be overheard by nobody but this machine's root."""
    if url.startswith(("https://", "unix:")):
        return True
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bearer(token: str, path: str) -> Callable[[], str]:
    """Return what gives the token for a request: the one given, else what the file holds then."""
    return TokenFile(Path(path)) if path and not token else lambda: token
