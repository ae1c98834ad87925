"""Tokens of a real issuer over TLS: which are taken, which are not, and keys that rotate."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import scitokens
from joserfc.jwk import ECKey, RSAKey

from evstream.adapters.token_issuers import (
    ANSWER_S_MAX,
    ASK_EVERY_S,
    KEYS_FRESH_S,
    KEYS_KEPT_S,
    WlcgIssuers,
)
from evstream.domain.access import is_below
from evstream.domain.errors import ConfigError, CredentialsError, TransientError
from evstream.domain.token_claims import TokenRoles
from evstream.testing.contracts.suite import Suite
from evstream.testing.manual_clock import ManualClock
from tests.certificates import Authority
from tests.token_issuer import ANY, TokenIssuer

HERE = "https://head.example.org"
ROLES = TokenRoles.parse(
    "scope:compute.create=submitter group:/evstream/pilots=pilot group:/evstream/ops=operator"
    " subject:lyon=edge:lyon-1 subject:two=edge:a subject:two=edge:b"
)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def issuer(authority: Authority) -> Iterator[TokenIssuer]:
    with TokenIssuer(authority) as opened:
        yield opened


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime.now(UTC))


@pytest.fixture
def trust(issuer: TokenIssuer, authority: Authority, clock: ManualClock) -> WlcgIssuers:
    return WlcgIssuers([issuer.url], [HERE], ROLES, clock, str(authority.ca_file))


def _packed(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


@pytest.mark.server
class TestTokens(Suite):
    @pytest.mark.parametrize(
        ("claims", "roles", "edge", "readable"),
        [
            ({}, set(), "", ()),
            ({"aud": HERE}, set(), "", ()),
            ({"aud": ["https://other", HERE]}, set(), "", ()),
            ({"scope": "compute.create storage.read:/outputs"}, {"submitter"}, "", ("/outputs",)),
            ({"scope": "storage.read:/ storage.create:/x"}, set(), "", ("/",)),
            ({"wlcg.groups": ["/evstream/pilots", "/other"]}, {"pilot"}, "", ()),
            ({"wlcg.groups": ["/evstream/pilots-too", "/evstream"]}, set(), "", ()),
            ({"sub": "lyon"}, {"edge"}, "lyon-1", ()),
        ],
    )
    async def test_what_a_token_gives(
        self,
        anyio_backend: str,
        issuer: TokenIssuer,
        trust: WlcgIssuers,
        claims: dict[str, Any],
        roles: set[str],
        edge: str,
        readable: tuple[str, ...],
    ) -> None:
        caller = await trust.who(issuer.token(**claims))
        assert (set(caller.roles), caller.edge, caller.readable) == (roles, edge, readable)
        assert caller.name == f"{claims.get('sub', 'anna')}@localhost"

    @pytest.mark.parametrize(
        ("claims", "told"),
        [
            ({"wlcg.ver": None}, "wlcg.ver"),
            ({"wlcg.ver": "2.0"}, "wlcg.ver"),
            ({"aud": None}, "aud"),
            ({"aud": "https://other"}, "aud"),
            ({"aud": f"{HERE}.evil.org"}, "aud"),
            ({"exp": None}, "never expires"),
            ({"exp": 1}, "has expired"),
            ({"exp": "later"}, "exp"),
            ({"nbf": 99_999_999_999}, "nbf"),
            ({"iat": 99_999_999_999}, "iat"),
            ({"sub": None}, "sub"),
            ({"scope": "storage.read"}, "no path"),
            ({"scope": "storage.read:"}, "no path"),
            ({"scope": "storage.modify"}, "no path"),
            ({"scope": "storage.read:foo"}, "no path"),
            ({"scope": "storage.read:/foo/../bar"}, "not normal"),
            ({"scope": ["storage.read:/"]}, "no text"),
            ({"wlcg.groups": "/evstream/ops"}, "groups"),
            ({"sub": "two"}, "several edges"),
            ({"iss": "https://evil.example.org"}, "not trusted"),
        ],
    )
    async def test_what_is_refused(
        self,
        anyio_backend: str,
        issuer: TokenIssuer,
        trust: WlcgIssuers,
        claims: dict[str, Any],
        told: str,
    ) -> None:
        with pytest.raises(CredentialsError, match=told):
            await trust.who(issuer.token(**claims))

    async def test_clocks_may_differ_by_a_minute(
        self, anyio_backend: str, issuer: TokenIssuer, trust: WlcgIssuers, clock: ManualClock
    ) -> None:
        now = int(clock.now().timestamp())
        await trust.who(issuer.token(exp=now - 55))
        await trust.who(issuer.token(nbf=now + 55, iat=now + 55))
        for claims in ({"exp": now - 65}, {"nbf": now + 65}, {"iat": now + 65}):
            with pytest.raises(CredentialsError):
                await trust.who(issuer.token(**claims))

    async def test_a_signature_of_somebody_else_is_refused(
        self, anyio_backend: str, issuer: TokenIssuer, trust: WlcgIssuers
    ) -> None:
        good = issuer.token()
        kid = json.loads(base64.urlsafe_b64decode(good.split(".")[0] + "=="))["kid"]
        forged = issuer.token(key=ECKey.generate_key("P-256", {"kid": kid}))
        head, body, signature = good.split(".")
        other = issuer.token(sub="root").split(".")[1]
        none = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
        for token in (
            forged,
            f"{head}.{other}.{signature}",
            f"{head}.{body}.",
            f"{none}.{body}.",
            f"{none}.{body}.{signature}",
            "a.b.c",
            "..",
            f"{head}.{'A' * 10_000}.{signature}",
        ):
            with pytest.raises(CredentialsError):
                await trust.who(token)

    async def test_a_public_key_is_no_secret_to_sign_by(
        self, anyio_backend: str, issuer: TokenIssuer, trust: WlcgIssuers
    ) -> None:
        issuer.rotate(kind="RSA")
        public: RSAKey = issuer._keys[0]
        claims = {"iss": issuer.url, "sub": "root", "wlcg.ver": "1.0", "exp": 99_999_999_999}
        parts = [_packed(json.dumps(part).encode()) for part in ({"alg": "HS256"}, claims)]
        signed = ".".join(parts).encode()
        pem = public.as_pem(private=False)
        forged = f"{signed.decode()}.{_packed(hmac.digest(pem, signed, 'sha256'))}"
        with pytest.raises(CredentialsError, match="HS256"):
            await trust.who(forged)
        assert (await trust.who(issuer.token())).name == "anna@localhost"

    async def test_keys_rotate(
        self, anyio_backend: str, issuer: TokenIssuer, trust: WlcgIssuers, clock: ManualClock
    ) -> None:
        before = issuer.token()
        await trust.who(before)
        issuer.rotate(keep=True)
        clock.advance(ASK_EVERY_S + 1)
        await trust.who(issuer.token())
        asked = len(issuer.asked)
        await trust.who(issuer.token(sub="berta"))
        assert len(issuer.asked) == asked, "known keys are not asked for"
        issuer.rotate()
        clock.advance(ASK_EVERY_S + 61)
        await trust.who(issuer.token())
        with pytest.raises(CredentialsError):
            await trust.who(before)

    async def test_an_issuer_is_not_asked_for_each_bad_token(
        self, anyio_backend: str, issuer: TokenIssuer, trust: WlcgIssuers
    ) -> None:
        await trust.who(issuer.token())
        asked = len(issuer.asked)
        for _ in range(20):
            with pytest.raises(CredentialsError):
                await trust.who(issuer.token(key=ECKey.generate_key("P-256", {"kid": "x"})))
        assert len(issuer.asked) == asked

    async def test_keys_outlast_an_outage_of_their_issuer(
        self, anyio_backend: str, issuer: TokenIssuer, trust: WlcgIssuers, clock: ManualClock
    ) -> None:
        issuer.away = True
        with pytest.raises(TransientError):
            await trust.who(issuer.token())
        issuer.away = False
        clock.advance(ASK_EVERY_S + 1)
        await trust.who(issuer.token())
        issuer.away = True
        clock.advance(KEYS_KEPT_S / 2)
        later = int(clock.now().timestamp()) + KEYS_KEPT_S
        await trust.who(issuer.token(exp=later))
        clock.advance(KEYS_KEPT_S)
        with pytest.raises(TransientError):
            await trust.who(issuer.token(exp=later + KEYS_KEPT_S))

    async def test_an_issuer_that_stalls_holds_up_nobody_whose_key_is_known(
        self,
        anyio_backend: str,
        issuer: TokenIssuer,
        trust: WlcgIssuers,
        clock: ManualClock,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        stalled, going_on, asked = asyncio.Event(), asyncio.Event(), 0
        fetch = trust._fetch

        async def stalls(url: str) -> dict[str, Any]:
            nonlocal asked
            asked += 1
            stalled.set()
            await going_on.wait()
            clock.advance(ANSWER_S_MAX)
            return await fetch(url)

        await trust.who(issuer.token())
        monkeypatch.setattr(trust, "_fetch", stalls)
        clock.advance(KEYS_FRESH_S + 1)
        later = int(clock.now().timestamp()) + KEYS_KEPT_S
        unknown = issuer.token(key=ECKey.generate_key("P-256", {"kid": "x"}), exp=later)
        strangers = [asyncio.create_task(trust.who(unknown)) for _ in range(5)]
        await stalled.wait()
        for number in range(5):
            await trust.who(issuer.token(exp=later, jti=str(number)))
        going_on.set()
        refused = await asyncio.gather(*strangers, return_exceptions=True)
        assert all(isinstance(error, CredentialsError) for error in refused)
        # Those who waited did not each ask it again.
        assert asked == 1

    async def test_an_issuer_that_is_not_who_it_says_is_not_believed(
        self, anyio_backend: str, issuer: TokenIssuer, authority: Authority, clock: ManualClock
    ) -> None:
        other = f"{issuer.url}/"
        trust = WlcgIssuers([other], [HERE], ROLES, clock, str(authority.ca_file))
        with pytest.raises(TransientError):
            await trust.who(issuer.token(iss=other))
        strangers = WlcgIssuers([issuer.url], [HERE], ROLES, clock)
        with pytest.raises(TransientError):
            await strangers.who(issuer.token())


@pytest.mark.parametrize(
    ("scope", "path", "may"),
    [
        ("storage.read:/foo/bar", "/foo/bar", True),
        ("storage.read:/foo/bar", "/foo/bar/baz", True),
        ("storage.read:/foo/bar", "/foo/bargain", False),
        ("storage.read:/foo/bar", "/foo", False),
        ("storage.read:/", "/foo", True),
    ],
)
def test_paths_mean_what_scitokens_takes_them_for(scope: str, path: str, may: bool) -> None:
    token = scitokens.SciToken()
    for name, value in {"iss": "https://issuer", "scope": scope, "ver": "scitoken:2.0"}.items():
        token[name] = value
    now = int(time.time())
    token["exp"], token["nbf"], token["aud"] = now + 60, now - 1, ANY
    assert scitokens.Enforcer("https://issuer", ANY).test(token, "storage.read", path) is may
    assert is_below(path, scope.partition(":")[2]) is may


def test_settings_that_cannot_be_are_refused(clock: ManualClock) -> None:
    for text in ("x", "scope:a=boss", "role:a=pilot", "scope:=pilot", "subject:a=edge:"):
        with pytest.raises(ConfigError):
            TokenRoles.parse(text)
    with pytest.raises(ConfigError, match="https"):
        WlcgIssuers(["http://issuer"], [HERE], ROLES, clock)
    with pytest.raises(ConfigError, match="token_audience"):
        WlcgIssuers(["https://issuer"], [], ROLES, clock)
