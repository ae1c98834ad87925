"""The `TokenIssuers` port: signed tokens, and the keys of those who sign them.

Keys are found as OpenID Connect Discovery says, kept, and asked for anew when a token names one
that is not known: that is how issuers rotate them.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey, import_key

from evstream.client.tls import client_context
from evstream.domain.access import Caller
from evstream.domain.errors import ConfigError, CredentialsError, TransientError
from evstream.domain.token_claims import TokenRoles, caller_of
from evstream.ports import Clock

_LOG = logging.getLogger(__name__)

ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "Ed25519", "EdDSA"),
)
"""Those with a public key: whoever checks a token could make it by any other."""
RSA_BITS_MIN = 2048
KEYS_FRESH_S = 3600.0
"""So long keys are used without being asked for again."""
KEYS_KEPT_S = 86_400.0
"""So long they are used while their issuer does not answer."""
ASK_EVERY_S = 10.0
"""An issuer is asked no more often, whatever tokens come."""
ANSWER_S_MAX = 10.0
ANSWER_BYTES_MAX = 1 << 20
TOKENS_KNOWN_MAX = 2_000
TOKEN_KNOWN_S = 60.0
"""So long a token is believed that was checked: its check costs more than the request."""


@dataclass(slots=True)
class _Issuer:
    url: str
    keys: dict[str, Any] = field(default_factory=dict)
    got: float = float("-inf")
    asked: float = float("-inf")
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)


class WlcgIssuers:
    """Takes tokens of some issuers.

    Parameters
    ----------
    issuers : sequence of str
        URLs, exactly as tokens name them; ``https`` alone.
    audiences : sequence of str
        Names of this service.
    ca_file : str
        Authorities that issuers' certificates may be of, beside the system's.

    Raises
    ------
    ConfigError
        An issuer is no ``https`` URL, or none has audiences.
    """

    def __init__(
        self,
        issuers: Sequence[str],
        audiences: Collection[str],
        roles: TokenRoles,
        clock: Clock,
        ca_file: str = "",
    ) -> None:
        for url in issuers:
            if not url.startswith("https://"):
                raise ConfigError(f"the issuer {url[:200]} is not https", hint="give its https URL")
        if not audiences:
            raise ConfigError(
                "tokens of issuers are taken, but not said for whom",
                hint="set token_audience to this service's URL",
            )
        self._issuers = {url: _Issuer(url) for url in issuers}
        self._audiences, self._roles, self._clock = audiences, roles, clock
        self._ca_file = ca_file
        self._checked: OrderedDict[bytes, tuple[Caller, float]] = OrderedDict()

    async def who(self, token: str) -> Caller:
        """Return whom a token stands for."""
        digest = hashlib.sha256(token.encode()).digest()
        known = self._checked.get(digest)
        if known is not None and self._clock.monotonic() < known[1]:
            return known[0]
        header, claims = _unchecked(token)
        issuer = self._issuers.get(str(claims.get("iss")))
        if issuer is None:
            raise CredentialsError(
                f"the token's issuer {str(claims.get('iss'))[:200]!r} is not trusted here",
                hint="get one of another issuer, or have token_issuers name it",
            )
        keys = await self._keys(issuer, str(header.get("kid", "")))
        claims = _verified(token, keys)
        now = self._clock.now()
        caller = caller_of(claims, self._audiences, self._roles, now)
        life = min(TOKEN_KNOWN_S, float(claims["exp"]) - now.timestamp())
        self._checked[digest] = caller, self._clock.monotonic() + life
        while len(self._checked) > TOKENS_KNOWN_MAX:
            self._checked.popitem(last=False)
        return caller

    async def _keys(self, issuer: _Issuer, wanted: str) -> list[Any]:
        """Return the keys that may have signed a token: the one it names, else all.

        One asks the issuer; whoever has a key that is known goes on meanwhile, so that neither
        an issuer that stalls nor tokens that name unknown keys hold all others up.
        """
        known = self._usable(issuer) and (not wanted or wanted in issuer.keys)
        if self._is_due(issuer, wanted) and not (known and issuer.asking.locked()):
            async with issuer.asking:
                if self._is_due(issuer, wanted):
                    await self._ask(issuer)
        if not self._usable(issuer):
            raise TransientError(
                f"the issuer {issuer.url} cannot be asked for its keys",
                hint="try again; if it goes on, see whether it answers",
                retry_after_s=ASK_EVERY_S,
            )
        if wanted:
            return [issuer.keys[wanted]] if wanted in issuer.keys else []
        return list(issuer.keys.values())

    def _usable(self, issuer: _Issuer) -> bool:
        return self._clock.monotonic() - issuer.got <= KEYS_KEPT_S

    def _is_due(self, issuer: _Issuer, wanted: str) -> bool:
        """Say whether an issuer should be asked, and was not just now."""
        now = self._clock.monotonic()
        stale = now - issuer.got > KEYS_FRESH_S or (wanted and wanted not in issuer.keys)
        return bool(stale) and now - issuer.asked > ASK_EVERY_S

    async def _ask(self, issuer: _Issuer) -> None:
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                issuer.keys = await self._fetch(issuer.url)
            issuer.got = self._clock.monotonic()
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, OSError) as error:
            _LOG.warning("evstream: no keys of the issuer %s: %s", issuer.url, error)
        finally:
            # From the end on: one that takes as long as it may is not asked again at once.
            issuer.asked = self._clock.monotonic()

    async def _fetch(self, issuer: str) -> dict[str, Any]:
        """Return an issuer's keys by their ids.

        Raises
        ------
        ValueError, OSError, httpx2.HTTPError
        """
        async with httpx2.AsyncClient(
            verify=client_context(self._ca_file), timeout=ANSWER_S_MAX, follow_redirects=False
        ) as http:
            place = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
            about = await _get(http, place)
            if about.get("issuer") != issuer:
                raise ValueError(f"it calls itself {about.get('issuer')!r}")
            where = str(about.get("jwks_uri"))
            if not where.startswith("https://"):
                raise ValueError(f"its keys are at {where!r}, which is not https")
            return _keys_of(await _get(http, where))


async def _get(http: httpx2.AsyncClient, url: str) -> dict[str, Any]:
    async with http.stream("GET", url) as response:
        response.raise_for_status()
        body = bytearray()
        async for piece in response.aiter_bytes():
            body += piece
            if len(body) > ANSWER_BYTES_MAX:
                raise ValueError(f"{url} answers with more than {ANSWER_BYTES_MAX} bytes")
    answer = json.loads(body)
    if not isinstance(answer, dict):
        raise ValueError(f"{url} does not answer with an object")
    return answer


def _keys_of(answer: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    listed = answer.get("keys")
    for number, one in enumerate(listed if isinstance(listed, list) else []):
        try:
            key = import_key(one)
        except (JoseError, ValueError, TypeError, KeyError):
            continue
        if not isinstance(key, RSAKey | ECKey | OKPKey) or one.get("use", "sig") != "sig":
            continue
        if isinstance(key, RSAKey) and key.public_key.key_size < RSA_BITS_MIN:
            continue
        found[str(one.get("kid", f"#{number}"))] = key
    return found


def _unchecked(token: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return header and claims of a token that nobody has looked at."""
    try:
        there = jws.extract_compact(token.encode("ascii"))
        header, claims = there.headers(), json.loads(there.payload)
    except (JoseError, ValueError, TypeError, RecursionError) as error:
        raise _damaged() from error
    if not isinstance(claims, dict) or not isinstance(header, dict):
        raise _damaged()
    if header.get("alg") not in ALGORITHMS:
        raise CredentialsError(
            f"tokens signed by {str(header.get('alg'))[:20]!r} are not taken",
            hint="use one that is signed by RS256 or ES256",
        )
    return header, claims


def _verified(token: str, keys: list[Any]) -> dict[str, Any]:
    """Return the claims of a token that one of the keys has signed."""
    for key in keys:
        try:
            return dict(jwt.decode(token, KeySet([key]), algorithms=list(ALGORITHMS)).claims)
        except (JoseError, ValueError, TypeError):
            continue
    raise CredentialsError("the token's signature is not its issuer's", hint="get another one")


def _damaged() -> CredentialsError:
    return CredentialsError("the token cannot be read", hint="get another one")
