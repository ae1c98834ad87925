"""Who may do what: roles, callers, and keys of which only a digest is kept."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from evstream.domain.errors import ConflictError, NotFoundError, RequestError
from evstream.domain.products import EDGE_NAME

Role = Literal["submitter", "pilot", "edge", "operator"]
ROLES: tuple[Role, ...] = get_args(Role)
OWNER = "owner"
"""The role of whoever has the service's own token or socket: everything."""

KEY_PREFIX = "evs"
KEY_ID = r"[a-z0-9]{8,32}"
KEY_DIGEST = r"[0-9a-f]{64}"
KEY_NAME_CHARS_MAX = 200


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody whose credentials hold.

    Attributes
    ----------
    name : str
        For people and logs; proves nothing by itself.
    roles : frozenset of str
        What they are.
    edge : str
        The one edge that they speak for; empty if they are none.
    readable : tuple of str
        Paths below which they may read content, whatever their roles (``storage.read``).
    """

    name: str
    roles: frozenset[str]
    edge: str = ""
    readable: tuple[str, ...] = ()

    def may(self, roles: Collection[str], edge: str | None = None) -> bool:
        """Whether the caller may do what is open to some roles.

        Parameters
        ----------
        edge : str, optional
            The edge that it is done to: an edge does nothing to another.
        """
        if OWNER in self.roles:
            return True
        held = self.roles.intersection(roles)
        if edge is not None and edge != self.edge:
            held -= {"edge"}
        return bool(held)

    def may_read(self, path: str) -> bool:
        """Whether a path is one that they may read, or lies below one, segment by segment."""
        return any(is_below(path, allowed) for allowed in self.readable)


THE_OWNER = Caller("owner", frozenset({OWNER}))


def is_below(path: str, allowed: str) -> bool:
    """Whether a path is another or below it: ``/a/bc`` is not below ``/a/b``.

    A path with empty, ``.`` or ``..`` segments is below nothing: what it means is disputed.
    """
    segments, wanted = path.split("/")[1:], [part for part in allowed.split("/") if part]
    if not path.startswith("/") or {"", ".", ".."} & set(segments) or {".", ".."} & set(wanted):
        return False
    return segments[: len(wanted)] == wanted


@dataclass(frozen=True, slots=True)
class AccessKey:
    """An API key as it is kept: who shows the secret that its digest fits has its role.

    Attributes
    ----------
    id : str
        Part of the key that is no secret.
    digest : str
        SHA-256 of the secret, which is random and long: no salt, and no slow hash, would add.
    edge : str
        The edge that a key of the role ``edge`` is bound to.
    expires : datetime, optional
        None: only revoking ends it.
    """

    id: str
    digest: str
    role: Role
    name: str
    edge: str
    created: datetime
    expires: datetime | None = None
    revoked: datetime | None = None
    last_used: datetime | None = None

    def opens(self, secret: str, now: datetime) -> bool:
        """Whether the secret is this key's, and the key still good."""
        fits = hmac.compare_digest(self.digest, digest_of(secret))
        over = self.expires is not None and now >= self.expires
        return fits and not over and self.revoked is None

    @property
    def caller(self) -> Caller:
        """Who shows it."""
        return Caller(self.name, frozenset({self.role}), self.edge)


def checked_key(key: AccessKey) -> AccessKey:
    """Return a key that may be kept.

    Raises
    ------
    RequestError
        Something about it cannot be, and which.
    """
    if not re.fullmatch(KEY_ID, key.id):
        raise RequestError(
            f"{key.id[:40]!r} cannot be a key's id",
            hint="use 8 to 32 lower-case letters and digits",
        )
    if not re.fullmatch(KEY_DIGEST, key.digest):
        raise RequestError(
            "a key's digest has 64 hexadecimal digits", hint="send the SHA-256 of its secret"
        )
    if not 0 < len(key.name) <= KEY_NAME_CHARS_MAX:
        raise RequestError(
            "a key needs a name", hint=f"say in {KEY_NAME_CHARS_MAX} characters who has it"
        )
    if (key.role == "edge") != bool(key.edge):
        raise RequestError(
            "a key of the role edge is bound to an edge, and no other is",
            hint="name the edge with --edge, or choose another role",
        )
    if key.edge and not re.fullmatch(EDGE_NAME, key.edge):
        raise RequestError(f"{key.edge[:100]!r} cannot name an edge")
    if key.expires is not None and key.expires <= key.created:
        raise RequestError("the key would expire before it is made", hint="choose a later time")
    return key


def same_key(known: AccessKey | None, key: AccessKey) -> bool:
    """Whether a key is known already, so that nothing has to be written.

    Raises
    ------
    ConflictError
        Its id is another key's.
    """
    if known is None:
        return False
    told = (key.digest, key.role, key.name, key.edge, key.expires)
    if told != (known.digest, known.role, known.name, known.edge, known.expires):
        raise ConflictError(f"there is another key {key.id}", hint="choose another id")
    return True


def unknown_access_key(key_id: str) -> NotFoundError:
    """Return the error that there is no such key."""
    return NotFoundError(f"there is no key {key_id[:40]!r}", hint="see 'evstream key list'")


def digest_of(secret: str) -> str:
    """Return what is kept of a key's secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def key_text(key_id: str, secret: str) -> str:
    """Return a key as its holder has it."""
    return f"{KEY_PREFIX}_{key_id}_{secret}"


def parse_key(text: str) -> tuple[str, str] | None:
    """Return id and secret of what looks like a key; None if it does not."""
    prefix, _, rest = text.partition("_")
    key_id, _, secret = rest.partition("_")
    if prefix != KEY_PREFIX or not secret or not re.fullmatch(KEY_ID, key_id):
        return None
    return key_id, secret
