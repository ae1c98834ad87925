"""What a token of an issuer says, by WLCG's profile of JWT (version 1), and whose it is.

A storage scope is a path: ``storage.read:/outputs/tasks`` lets its bearer read what is there and
below, as whole segments, and ``/outputs/tasks`` is what the API has at ``/v1/outputs/tasks``. It
takes a setting to let scopes, groups and subjects have roles.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from evstream.domain.access import ROLES, Caller
from evstream.domain.errors import ConfigError, CredentialsError
from evstream.domain.products import EDGE_NAME

ANY_AUDIENCE = "https://wlcg.cern.ch/jwt/v1/any"
SKEW_S = 60
"""So far the clocks of an issuer and of ours may differ."""
_WITH_PATH = frozenset({"storage.read", "storage.create", "storage.modify", "storage.stage"})


@dataclass(frozen=True, slots=True)
class TokenRoles:
    """Which roles go with what a token says.

    Attributes
    ----------
    rules : tuple of (str, str, str)
        Kind (``scope``, ``group`` or ``subject``), what it is, and the role: one of `ROLES`, or
        ``edge:NAME``.
    """

    rules: tuple[tuple[str, str, str], ...]

    @classmethod
    def parse(cls, text: str) -> TokenRoles:
        """Read ``scope:compute.create=submitter group:/evstream/ops=operator …``.

        Raises
        ------
        ConfigError
            A word is none of these.
        """
        rules = []
        for word in text.split():
            told, _, role = word.rpartition("=")
            kind, _, what = told.partition(":")
            name = role.removeprefix("edge:")
            known = role in ROLES if name == role else re.fullmatch(EDGE_NAME, name)
            if kind not in ("scope", "group", "subject") or not what or not known or role == "edge":
                raise ConfigError(
                    f"token_roles: {word[:200]!r} is no rule",
                    hint="write scope:S=ROLE, group:/G=ROLE or subject:S=ROLE, with the role"
                    " submitter, pilot, operator or edge:NAME",
                )
            rules.append((kind, what, role))
        return cls(tuple(rules))

    def of(self, scopes: Collection[str], groups: Collection[str], subject: str) -> set[str]:
        """Return the roles of a token, an edge's as ``edge:NAME``."""
        said = {"scope": scopes, "group": groups, "subject": (subject,)}
        return {role for kind, what, role in self.rules if what in said[kind]}


def caller_of(
    claims: Mapping[str, Any], audiences: Collection[str], roles: TokenRoles, now: datetime
) -> Caller:
    """Return whose token this is; its signature has been checked.

    Parameters
    ----------
    audiences : collection of str
        Names of this service; a token for any service is taken too.

    Raises
    ------
    CredentialsError
        It is not (yet, any more) good, not for us, or not of the profile.
    """
    _check_version(claims)
    _check_times(claims, now.timestamp())
    _check_audience(claims, audiences)
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject:
        raise _refused("it has no subject (sub)")
    scopes, readable = _scopes(claims)
    groups = claims.get("wlcg.groups", [])
    if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
        raise _refused("wlcg.groups is no list of texts")
    held = roles.of(scopes, groups, subject)
    edges = sorted(role.removeprefix("edge:") for role in held if role.startswith("edge:"))
    if len(edges) > 1:
        raise _refused(f"it would be several edges: {', '.join(edges)}")
    plain = frozenset("edge" if role.startswith("edge:") else role for role in held)
    name = f"{subject}@{urlsplit(str(claims.get('iss'))).hostname}"
    return Caller(name, plain, edges[0] if edges else "", readable)


def _check_version(claims: Mapping[str, Any]) -> None:
    version = claims.get("wlcg.ver")
    if not isinstance(version, str) or not re.fullmatch(r"1\.[0-9]{1,3}", version):
        raise _refused(f"its wlcg.ver is {str(version)[:20]!r}, not 1.x")


def _check_times(claims: Mapping[str, Any], now: float) -> None:
    times: dict[str, float | None] = {}
    for name in ("exp", "nbf", "iat"):
        time = claims.get(name)
        if isinstance(time, bool) or not isinstance(time, int | float | None):
            raise _refused(f"{name} is no time")
        times[name] = time
    expires, begins, issued = times["exp"], times["nbf"], times["iat"]
    if expires is None:
        raise _refused("it never expires (exp)")
    # NaN is neither before nor after anything.
    if not now < expires + SKEW_S:
        raise _refused("it has expired")
    if begins is not None and not now >= begins - SKEW_S:
        raise _refused("it is not good yet (nbf)")
    if issued is not None and not now >= issued - SKEW_S:
        raise _refused("it is from the future (iat)")


def _check_audience(claims: Mapping[str, Any], audiences: Collection[str]) -> None:
    given = claims.get("aud")
    named = [given] if isinstance(given, str) else given
    if not isinstance(named, list) or not {ANY_AUDIENCE, *audiences}.intersection(
        one for one in named if isinstance(one, str)
    ):
        raise _refused(f"it is for {str(given)[:200]!r} (aud), not for this service")


def _scopes(claims: Mapping[str, Any]) -> tuple[set[str], tuple[str, ...]]:
    """Return the scopes, and the paths that may be read."""
    text = claims.get("scope", "")
    if not isinstance(text, str):
        raise _refused("scope is no text")
    scopes, readable = set(text.split()), []
    for scope in scopes:
        what, colon, path = scope.partition(":")
        if what not in _WITH_PATH:
            continue
        # Without a path it is not said what may be read: not all, and not nothing.
        if not colon or not path.startswith("/"):
            raise _refused(f"the scope {scope[:200]!r} has no path")
        segments = path.strip("/").split("/")
        if {".", ".."} & set(segments) or ("" in segments and path != "/"):
            raise _refused(f"the path of the scope {scope[:200]!r} is not normal")
        if what == "storage.read":
            readable.append(path)
    return scopes, tuple(sorted(readable))


def _refused(why: str) -> CredentialsError:
    return CredentialsError(f"the token is refused: {why}", hint="get another from its issuer")
