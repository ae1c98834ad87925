"""An origin that asks for tokens, over TLS: who has the right one is let in, by HTTP and by root://."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evstream.adapters.offload import InPlace
from evstream.adapters.source.origin_tokens import OriginTokens
from evstream.adapters.storage.direct import DirectWriter
from evstream.adapters.storage.webdav import DavClient
from evstream.domain.errors import AccessError, ConflictError, TransientError
from tests.certificates import Authority
from tests.ports import free_port
from tests.stack import nginx, wan, xrootd
from tests.stack.namespaces import Namespace, namespace

pytest.importorskip("joserfc", reason="joserfc is not installed")
from joserfc import jwt
from joserfc.jwk import ECKey

pytestmark = [pytest.mark.server, pytest.mark.root_user]
NAME = "origin.test"
AUDIENCE = "https://origin.test"
CONTENT = b"events " * 10_000


class Issuer:
    """Signs tokens of the WLCG's profile; nginx serves what it tells of itself."""

    def __init__(self, folder: Path, port: int) -> None:
        self.url = f"https://localhost:{port}"
        self._key = ECKey.generate_key("P-256", {"kid": "first", "use": "sig", "alg": "ES256"})
        told = folder / ".well-known"
        told.mkdir(parents=True)
        discovery = {"issuer": self.url, "jwks_uri": f"{self.url}/jwks.json"}
        (told / "openid-configuration").write_text(json.dumps(discovery))
        keys = {"keys": [self._key.as_dict(private=False)]}
        (folder / "jwks.json").write_text(json.dumps(keys))

    def token(self, scope: str, audience: str = AUDIENCE, life_s: float = 600) -> str:
        now = int(time.time())
        claims = {
            "wlcg.ver": "1.0",
            "iss": self.url,
            "sub": "tests",
            "aud": audience,
            "scope": scope,
            "iat": now - 10,
            "nbf": now - 10,
            "exp": now + int(life_s),
            "jti": f"{now}-{scope}",
        }
        return jwt.encode({"alg": "ES256", "kid": "first"}, claims, self._key)


@pytest.fixture(scope="module")
def place() -> Iterator[Namespace]:
    with namespace() as made:
        yield made


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def issuer(
    place: Namespace, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Issuer]:
    port, folder = free_port(), tmp_path_factory.mktemp("issuer")
    made = Issuer(folder, port)
    cert, key = authority.issue("issuer")
    site = f"""server {{ listen 127.0.0.1:{port} ssl; root {folder};
        ssl_certificate {cert}; ssl_certificate_key {key}; }}"""
    with (
        nginx.nginx(site, port, files_of_ours=True),
        wan.link(("127.0.0.1", port), door=place.listen(port)),
    ):
        yield made


@pytest.fixture(scope="module")
def origin(
    place: Namespace, authority: Authority, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[xrootd.XrootdServer]:
    cert, key = authority.issue("origin", place.address, NAME)
    tls = xrootd.Tls(cert, key, authority.ca_file)
    with xrootd.origin(place, tls, xrootd.Tokens(issuer.url, AUDIENCE)) as server:
        path = tmp_path_factory.mktemp("content") / "content"
        path.write_bytes(CONTENT)
        server.add(path, "/data/content")
        server.add(path, "/other/content")
        yield server


def fetch(origin: xrootd.XrootdServer, authority: Authority, path: str, token: str) -> bytes:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(origin.http_url + path, headers=headers)
    context = ssl.create_default_context(cafile=str(authority.ca_file))
    with urllib.request.urlopen(request, timeout=30, context=context) as answer:
        return bytes(answer.read())


def test_a_token_opens_the_paths_that_it_names(
    origin: xrootd.XrootdServer, authority: Authority, issuer: Issuer
) -> None:
    token = issuer.token("storage.read:/data")
    assert fetch(origin, authority, "/data/content", token) == CONTENT, origin.tail()
    refused = {
        "no token": ("/data/content", ""),
        "another path": ("/other/content", token),
        "another audience": ("/data/content", issuer.token("storage.read:/data", "https://x.test")),
        "one that has ended": ("/data/content", issuer.token("storage.read:/data", life_s=-300)),
        "the wrong right": ("/data/content", issuer.token("compute.read")),
    }
    for why, (path, shown) in refused.items():
        with pytest.raises(urllib.error.HTTPError) as error:
            fetch(origin, authority, path, shown)
        with error.value:  # It holds the connection.
            assert error.value.code in (401, 403), why


@pytest.mark.parametrize("may_read", [False, True])
def test_what_was_written_with_no_answer_is_known_or_gets_another_name(
    origin: xrootd.XrootdServer,
    authority: Authority,
    issuer: Issuer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    may_read: bool,
) -> None:
    scope = "storage.create:/written" + (" storage.read:/written" if may_read else "")
    token, path = tmp_path / "token", tmp_path / "output"
    token.write_text(issuer.token(scope))
    path.write_bytes(CONTENT)
    origin.make_folder("/written")
    host = origin.http_url.removeprefix("https://")
    place = f"davs://{host}/written/{'known' if may_read else 'unknown'}"
    tokens = OriginTokens.parse(f"{host}={token}")

    async def main() -> None:
        writer = DirectWriter(tokens, InPlace(), str(authority.ca_file), 20.0)
        put = DavClient.put

        async def lose_answer(*given: Any) -> None:
            await put(*given)
            raise TransientError("the answer is lost")

        monkeypatch.setattr(DavClient, "put", lose_answer)
        with pytest.raises(TransientError):
            await writer.write(place, path)
        monkeypatch.setattr(DavClient, "put", put)
        if may_read:
            assert (await writer.write(place, path)).size == len(CONTENT)
        else:
            with pytest.raises(ConflictError):
                await writer.write(place, path)
            # Where nothing was begun before, a refusal is what it says.
            with pytest.raises(AccessError):
                await writer.write(place.replace("/written", "/other"), path)
        await writer.close()

    asyncio.run(main())
    assert (origin.data / "written" / place.rpartition("/")[2]).read_bytes() == CONTENT


def run_named(
    origin: xrootd.XrootdServer, folder: Path, script: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run Python where the origin has its name: XRootD's client finds no addresses in certificates.

    The machine's own names stay what they are.
    """
    hosts, address = folder / "hosts", origin.host.partition(":")[0]
    hosts.write_text(f"127.0.0.1 localhost\n{address} {NAME}\n")
    named = 'mount --bind "$0" /etc/hosts && exec "$@"'
    enter = ["unshare", "--mount", "--propagation=private", "sh", "-c", named, hosts]
    return subprocess.run(
        [*enter, sys.executable, "-c", script],
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder),
            "PYTHONPATH": ":".join(sys.path),
            "XRD_CONNECTIONRETRY": "1",
            "XRD_REQUESTTIMEOUT": "20",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_tokens_of_settings_are_shown_to_the_host_that_they_name(
    origin: xrootd.XrootdServer, authority: Authority, issuer: Issuer, tmp_path: Path
) -> None:
    """One process, one connection: a token that was renewed counts from the next file on."""
    pytest.importorskip("XRootD", reason="no wheel of xrootd for this Python")
    file = tmp_path / "token"
    file.write_text(issuer.token("storage.read:/data"))
    file.chmod(0o600)
    (tmp_path / "next").write_text(issuer.token("storage.read:/other"))
    (tmp_path / "next").chmod(0o600)
    url = origin.root_url.replace("root://", "roots://").replace(
        origin.host.partition(":")[0], NAME
    )
    script = f"""
import os
import sys
from evstream.adapters.source.fsspec import FsspecOpener
from evstream.adapters.source.origin_tokens import OriginTokens
from evstream.domain.errors import AccessError
opener = FsspecOpener(progress_s=20, tokens=OriginTokens.parse("{NAME}={file}"))
def size(path):
    try:
        opener.signature("{url}" + path)
        with opener.open("{url}" + path) as source:
            return len(source.read_ranges([(0, source.size)])[0])
    except AccessError as error:
        assert "Bearer" not in str(error) and "eyJ" not in str(error), error
        print(error, file=sys.stderr)
        return "refused"
print(size("/data/content"), size("/other/content"))
os.replace("{tmp_path}/next", "{file}")
print(size("/data/content"), size("/other/content"))
"""
    ran = run_named(origin, tmp_path, script, X509_CERT_FILE=str(authority.ca_file))
    assert ran.returncode == 0, ran.stderr + origin.tail()
    size = str(len(CONTENT))
    assert ran.stdout.split() == [size, "refused", "refused", size], ran.stderr + origin.tail()


def test_root_urls_take_tokens_over_tls(
    origin: xrootd.XrootdServer, authority: Authority, issuer: Issuer, tmp_path: Path
) -> None:
    pytest.importorskip("fsspec_xrootd", reason="no wheel of xrootd for this Python")
    # XRootD's client finds no addresses in certificates; the machine's hosts stay what they are.
    hosts, address = tmp_path / "hosts", origin.host.partition(":")[0]
    hosts.write_text(f"127.0.0.1 localhost\n{address} {NAME}\n")
    named = 'mount --bind "$0" /etc/hosts && exec "$@"'
    enter = ["unshare", "--mount", "--propagation=private", "sh", "-c", named, hosts]
    url = origin.root_url.replace(address, NAME)
    script = f"""
import fsspec
with fsspec.open("{url}/data/content") as file:
    print(len(file.read()))
"""
    found = {}
    for name, token in (("right", issuer.token("storage.read:/data")), ("none", "")):
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(tmp_path),
            "X509_CERT_FILE": str(authority.ca_file),
            "XRD_CONNECTIONRETRY": "1",
            "XRD_REQUESTTIMEOUT": "20",
            **({"BEARER_TOKEN": token} if token else {}),
        }
        found[name] = subprocess.run(
            [*enter, sys.executable, "-c", script],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert found["right"].stdout.strip() == str(len(CONTENT)), found["right"].stderr[-3000:]
    assert found["none"].returncode != 0
