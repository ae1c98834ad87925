"""An nginx of the test's own, on loopback ports and from a folder of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.stack.processes import Daemon, answers

_FRAME = """\
daemon off;
master_process {master};
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{text}
}}
"""


def skip_without_nginx() -> None:
    """Skip the test where there is none."""
    if shutil.which("nginx") is None:
        pytest.skip("no nginx is installed (as root: apt-get install nginx-light)")


@contextmanager
def nginx(text: str, port: int, *, files_of_ours: bool = False) -> Iterator[Daemon]:
    """Start an nginx with what stands in its http block; it ends with the context.

    Parameters
    ----------
    port : int
        On loopback; when somebody listens there, it runs.
    files_of_ours : bool
        It reads files that only this user may read, so it keeps this user's rights.
    """
    skip_without_nginx()
    folder = Path(tempfile.mkdtemp(prefix="evngx-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        # Without a master it is one process of whoever started it.
        words = {"folder": folder, "text": text, "master": "off" if files_of_ours else "on"}
        config = folder / "nginx.conf"
        config.write_text(_FRAME.format(**words))
        command: Sequence[str | Path] = ["nginx", "-p", folder, "-c", config, "-e", "stderr"]
        daemon = Daemon(
            [*command], folder / "output.log", lambda: answers("127.0.0.1", port), dict(os.environ)
        )
        try:
            daemon.start()
            yield daemon
        finally:
            daemon.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def balancer(
    port: int,
    servers: Sequence[str],
    tls: tuple[Path, Path] | None = None,
    trusted: Path | None = None,
) -> str:
    """Return a site that spreads requests over heads, HOST:PORT each, and skips dead ones.

    Parameters
    ----------
    tls : tuple, optional
        Certificate and key of its own.
    trusted : Path, optional
        Authorities; heads are then spoken to over TLS, as ``localhost``.
    """
    lines = "".join(f"server {server} max_fails=1 fail_timeout=2s;\n" for server in servers)
    secured = f"ssl_certificate {tls[0]};\nssl_certificate_key {tls[1]};" if tls else ""
    scheme, checked = "http", ""
    if trusted is not None:
        scheme = "https"
        checked = (
            f"proxy_ssl_verify on; proxy_ssl_trusted_certificate {trusted};"
            " proxy_ssl_name localhost; proxy_ssl_server_name on;"
        )
    return f"""
    upstream heads {{
        {lines} keepalive 16;
    }}
    server {{
        listen 127.0.0.1:{port}{" ssl" if tls else ""};
        {secured}
        {checked}
        client_max_body_size 0;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $http_host;
        proxy_request_buffering off;
        proxy_read_timeout 120s;
        location / {{
            proxy_pass {scheme}://heads;
            # Requests carry ids of their own, so that again is no harm.
            proxy_next_upstream error timeout http_502 http_503 non_idempotent;
            proxy_next_upstream_tries 3;
        }}
    }}
"""
