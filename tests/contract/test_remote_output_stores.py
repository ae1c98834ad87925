"""Output stores behind a network keep the store's contract: real servers, each with its ways."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from functools import cache
from io import BytesIO

import pytest

from evstream.adapters.offload import Threads
from evstream.adapters.storage.webdav import DavClient, WebDavStore
from evstream.adapters.storage.xrootd import XrootdFiles, XrootdStore
from evstream.domain.errors import TransientError
from evstream.ports.offload import Offload
from evstream.ports.storage import OutputStore
from evstream.testing.contracts import OutputStoreContract
from tests.ports import free_port
from tests.s3_gateway import Gateway, gateway
from tests.stack import xrootd
from tests.stack.namespaces import namespace

pytestmark = pytest.mark.server
PROGRESS_S = 30.0


class NoTokens:
    """Nobody is shown anything."""

    def of(self, url: str) -> str:
        return ""

    def with_token(self, url: str) -> str:
        return url

    def with_login(self, url: str) -> str:
        return url


@pytest.fixture(scope="module")
def numbers() -> Iterator[int]:
    return itertools.count()


@pytest.fixture(scope="module")
def offload() -> Iterator[Offload]:
    threads = Threads(8)
    yield threads
    threads.close()


@pytest.fixture(scope="module")
def server() -> Iterator[xrootd.XrootdServer]:
    with namespace() as place, xrootd.origin(place) as server:
        yield server


@pytest.mark.root_user
class TestXrootdStore(OutputStoreContract):
    @pytest.fixture
    def open_again(
        self, server: xrootd.XrootdServer, offload: Offload, numbers: Iterator[int]
    ) -> Callable[[], OutputStore]:
        pytest.importorskip("XRootD", reason="no wheel of xrootd for this Python")
        url = f"{server.root_url}/root-{next(numbers)}"
        return lambda: XrootdStore(url, offload, XrootdFiles(NoTokens(), PROGRESS_S))

    @pytest.fixture
    def store(self, open_again: Callable[[], OutputStore]) -> OutputStore:
        return open_again()


@pytest.mark.root_user
class TestWebDavStore(OutputStoreContract):
    # XRootD answers 500 or nothing: it could be anything.
    knows_folders = False

    @pytest.fixture
    async def client(self) -> AsyncIterator[DavClient]:
        client = DavClient(NoTokens().of, "", PROGRESS_S)
        yield client
        await client.close()

    @pytest.fixture
    def open_again(
        self,
        server: xrootd.XrootdServer,
        offload: Offload,
        client: DavClient,
        numbers: Iterator[int],
    ) -> Callable[[], OutputStore]:
        url = server.http_url.replace("http://", "dav://") + f"/dav-{next(numbers)}"
        return lambda: WebDavStore(url, offload, client)

    @pytest.fixture
    def store(self, open_again: Callable[[], OutputStore]) -> OutputStore:
        return open_again()


@pytest.fixture(scope="module")
def buckets() -> Iterator[Callable[[bool], Gateway]]:
    """Gateways as they are asked for."""
    with ExitStack() as stack:

        @cache
        def start(keeps_tags: bool) -> Gateway:
            return stack.enter_context(gateway(keeps_tags=keeps_tags))

        yield start


class OfBuckets(OutputStoreContract):
    @pytest.fixture
    def open_again(
        self,
        buckets: Callable[[bool], Gateway],
        offload: Offload,
        numbers: Iterator[int],
        monkeypatch: pytest.MonkeyPatch,
    ) -> Callable[[], OutputStore]:
        from evstream.adapters.storage.s3 import S3OutputStore

        made = buckets(self.tells_digests)
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        url = f"{made.url}/of-{next(numbers)}"
        return lambda: S3OutputStore(url, offload, PROGRESS_S)

    @pytest.fixture
    def store(self, open_again: Callable[[], OutputStore]) -> OutputStore:
        return open_again()


class TestS3Store(OfBuckets):
    """One that tells the MD5 of what it has."""


class TestS3StoreWithoutTags(OfBuckets):
    """One that tells a size and nothing else."""

    tells_digests = False


def test_a_server_of_xrootd_that_refuses_is_not_waited_for() -> None:
    pytest.importorskip("XRootD", reason="no wheel of xrootd for this Python")
    # For an hour, were the client itself to find out.
    files = XrootdFiles(NoTokens(), 3600.0)
    url = f"root://127.0.0.1:{free_port()}//outputs"
    for ask in (
        lambda: files.write(f"{url}/a", BytesIO(b"x")),
        lambda: files.stat(f"{url}/a", "a"),
        lambda: files.read(f"{url}/a", 0, 1),
        lambda: files.delete(f"{url}/a"),
        lambda: files.names(url),
    ):
        with pytest.raises(TransientError, match="Connection refused"):
            ask()
