"""A token issuer for tests: OpenID discovery and keys over TLS, and tokens of WLCG's profile.

with TokenIssuer(Authority(folder)) as issuer:
    token = issuer.token(scope="storage.read:/", aud="https://head.example.org")
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from tests.certificates import Authority

ANY = "https://wlcg.cern.ch/jwt/v1/any"


class TokenIssuer:
    """Serves its keys on a port of its own, until it is closed.

    Attributes
    ----------
    url : str
        What its tokens name as their issuer.
    asked : list of str
        Paths that were asked for.
    """

    def __init__(
        self, authority: Authority, host: str = "localhost", bind: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.asked: list[str] = []
        self.away = False
        self._keys: list[Any] = []
        self.rotate()
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                content = None if issuer.away else issuer.answer(self.path)
                self.send_response(503 if issuer.away else 404 if content is None else 200)
                body = json.dumps(content).encode()
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*authority.issue("issuer", host))

        class Server(ThreadingHTTPServer):
            def get_request(self) -> tuple[socket.socket, Any]:
                plain, address = self.socket.accept()
                try:
                    # Of whoever has gone already, ssl would leave a socket open.
                    plain.getpeername()
                    shaken = context.wrap_socket(
                        plain, server_side=True, do_handshake_on_connect=False
                    )
                except OSError:
                    plain.close()
                    raise
                return shaken, address

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Say nothing: clients go away in the middle, and are meant to."""

        self._server = Server((bind, port), Handler)
        self.url = f"https://{host}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def answer(self, path: str) -> Any:
        """Return what is at a path."""
        if path == "/.well-known/openid-configuration":
            return {"issuer": self.url, "jwks_uri": f"{self.url}/jwks"}
        if path == "/jwks":
            return {"keys": [key.as_dict(private=False, use="sig") for key in self._keys]}
        return None

    def rotate(self, *, keep: bool = False, kind: str = "EC") -> None:
        """Sign by another key from now on; the one before stays known if it is kept."""
        parameters = {"kid": uuid.uuid4().hex[:8]}
        made: Any = (
            ECKey.generate_key("P-256", parameters)
            if kind == "EC"
            else RSAKey.generate_key(2048, parameters)
        )
        self._keys = [made, *(self._keys if keep else [])]

    def token(self, *, key: Any = None, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """Return a token; a claim of None is left out."""
        signing = self._keys[0] if key is None else key
        now = int(time.time())
        said = {
            "iss": self.url,
            "sub": "anna",
            "aud": ANY,
            "wlcg.ver": "1.0",
            "iat": now,
            "nbf": now,
            "exp": now + 3600,
            "jti": uuid.uuid4().hex,
            **claims,
        }
        algorithm = "ES256" if isinstance(signing, ECKey) else "RS256"
        told = {"alg": algorithm, "kid": signing.kid, **(header or {})}
        kept = {name: value for name, value in said.items() if value is not None}
        return jwt.encode(told, kept, signing, algorithms=[told["alg"]])

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
