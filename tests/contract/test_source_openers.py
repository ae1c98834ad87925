"""Every source opener keeps the opener's contract; foreign errors never come through."""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import fsspec
import pytest

from evstream.adapters.source import fsspec as opener_module
from evstream.adapters.source.fsspec import FsspecOpener, translate
from evstream.adapters.source.memory import MemoryOpener
from evstream.adapters.source.ranges import coalesce
from evstream.domain.errors import (
    AccessError,
    ConfigError,
    DataError,
    EvstreamError,
    NotFoundError,
    RequestError,
    TransientError,
)
from evstream.ports.source import SourceOpener
from evstream.testing.contracts import SourceOpenerContract
from tests.ports import free_port
from tests.s3_gateway import gateway


class TestMemoryOpener(SourceOpenerContract):
    @pytest.fixture
    def files(self) -> dict[str, bytes]:
        return {}

    @pytest.fixture
    def opener(self, files: dict[str, bytes]) -> SourceOpener:
        return MemoryOpener(files)

    @pytest.fixture
    def put(self, files: dict[str, bytes]) -> Callable[[bytes], str]:
        def put(content: bytes) -> str:
            files["events.root"] = content
            return "events.root"

        return put


class TestLocalPaths(SourceOpenerContract):
    @pytest.fixture
    def opener(self) -> SourceOpener:
        return FsspecOpener()

    @pytest.fixture
    def put(self, tmp_path: Path) -> Callable[[bytes], str]:
        def put(content: bytes) -> str:
            path = tmp_path / "events of 2012 %41.root"
            path.write_bytes(content)
            return self.pfn(path)

        return put

    @staticmethod
    def pfn(path: Path) -> str:
        return str(path)


class TestFileUrls(TestLocalPaths):
    @staticmethod
    def pfn(path: Path) -> str:
        return path.as_uri()


class TestFsspecFiles(SourceOpenerContract):
    """A backend that is not asynchronous."""

    @pytest.fixture
    def opener(self) -> SourceOpener:
        return FsspecOpener()

    @pytest.fixture
    def put(self, tmp_path: Path) -> Iterator[Callable[[bytes], str]]:
        path = f"/{tmp_path.name}/events.root"

        def put(content: bytes) -> str:
            fsspec.filesystem("memory").pipe(path, content)
            return f"memory:/{path}"

        yield put
        fsspec.filesystem("memory").rm(path, recursive=True)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with gateway() as running, pytest.MonkeyPatch.context() as patch:
        for name, value in running.environment.items():
            patch.setenv(name, value)
        yield running.url


@pytest.mark.server
class TestBuckets(SourceOpenerContract):
    @pytest.fixture
    def opener(self) -> SourceOpener:
        return FsspecOpener()

    @pytest.fixture
    def put(self, bucket: str) -> Callable[[bytes], str]:
        def put(content: bytes) -> str:
            from obstore.store import S3Store

            store = S3Store.from_url(bucket, client_options={"allow_http": True})
            store.put("some/events.root", content)
            return f"{bucket}/some/events.root"

        return put

    @pytest.mark.parametrize("name", ["s3://", "s3://events", "s3://events/", "s3://events/some/"])
    def test_what_names_no_object_is_refused(self, opener: SourceOpener, name: str) -> None:
        with pytest.raises(RequestError), opener.open(name):
            pass

    def test_wrong_credentials_are_told(
        self, put: Callable[[bytes], str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pfn = put(b"events")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
        with pytest.raises(AccessError), FsspecOpener().open(pfn):
            pass

    def test_without_credentials_requests_are_not_signed(
        self, put: Callable[[bytes], str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pfn = put(b"events")
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        with pytest.raises(ConfigError, match="the bucket events cannot be used"):
            FsspecOpener().signature(pfn)
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        with pytest.raises(AccessError), FsspecOpener().open(pfn):
            pass

    def test_a_store_that_is_away_is_transient(
        self, bucket: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
        with pytest.raises(TransientError), FsspecOpener().open(f"{bucket}/some/events.root"):
            pass


class Handler(BaseHTTPRequestHandler):
    """A web server with one file, which does as it is told."""

    content: ClassVar[bytes] = b""
    knows_ranges: ClassVar[bool] = True
    status: ClassVar[int] = 200
    cut_short: ClassVar[int] = 0
    breaks: ClassVar[int] = 0
    requests: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.requests.append(self.headers.get("Range", ""))
        if self.status != 200 or not self.path.endswith("events.root"):
            self.send_error(self.status if self.status != 200 else 404)
            return
        body, status = self.content, 200
        asked = self.headers.get("Range")
        if asked and self.knows_ranges:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            body, status = body[int(first) : int(last) + 1], 206
        self.send_response(status)
        if status == 206:
            body = body[: len(body) - self.cut_short]
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{len(self.content)}"')
        self.end_headers()
        if self.command == "GET" and status == 206 and self.breaks:
            type(self).breaks -= 1
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        elif self.command == "GET":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *args: object) -> None:
        """Keep quiet."""


@pytest.fixture
def handler() -> type[Handler]:
    return type("OwnHandler", (Handler,), {"requests": []})


@pytest.fixture
def server(handler: type[Handler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.server
class TestWebServers(SourceOpenerContract):
    @pytest.fixture
    def opener(self) -> SourceOpener:
        return FsspecOpener()

    @pytest.fixture
    def put(self, server: str, handler: type[Handler]) -> Callable[[bytes], str]:
        def put(content: bytes) -> str:
            handler.content = content
            return f"{server}/data/events.root"

        return put

    def test_neighbours_are_fetched_together(
        self, opener: SourceOpener, put: Callable[[bytes], str], handler: type[Handler]
    ) -> None:
        with opener.open(put(bytes(200_000))) as source:
            handler.requests.clear()
            source.read_ranges([(0, 10), (100_000, 10), (20, 10), (100_010, 5)])
        assert sorted(handler.requests) == ["bytes=0-29", "bytes=100000-100014"]

    def test_a_server_without_ranges_still_serves_and_is_told_of_once(
        self,
        opener: SourceOpener,
        put: Callable[[bytes], str],
        handler: type[Handler],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        handler.knows_ranges = False
        with opener.open(put(b"0123456789")) as source:
            for _ in range(2):
                assert [bytes(data) for data in source.read_ranges([(3, 4)])] == [b"3456"]
        assert sum("knows no byte ranges" in message for message in caplog.messages) == 1

    @pytest.mark.parametrize("breaks", [1, 2, 3])
    def test_what_a_broken_connection_lacks_is_asked_for_again(
        self,
        opener: SourceOpener,
        put: Callable[[bytes], str],
        handler: type[Handler],
        breaks: int,
    ) -> None:
        with opener.open(put(bytes(200_000))) as source:
            handler.requests.clear()
            handler.breaks = breaks
            wanted = [(0, 1000)] if breaks > 2 else [(0, 1000), (100_000, 1000)]
            if breaks > opener_module.RECONNECTIONS_MAX:
                with pytest.raises(TransientError):
                    source.read_ranges(wanted)
            else:
                assert [bytes(part) for part in source.read_ranges(wanted)] == 2 * [bytes(1000)]
            # What had come is not asked for again.
            assert len(handler.requests) == (3 if breaks > 2 else 2 + breaks)

    def test_short_answers_are_bad_data(
        self, opener: SourceOpener, put: Callable[[bytes], str], handler: type[Handler]
    ) -> None:
        handler.cut_short = 1
        with opener.open(put(b"0123456789")) as source, pytest.raises(DataError, match="truncated"):
            source.read_ranges([(3, 4)])

    @pytest.mark.parametrize(
        ("status", "expected"),
        [
            (401, AccessError),
            (403, AccessError),
            (404, NotFoundError),
            (410, NotFoundError),
            (400, RequestError),
            (416, DataError),
            (429, TransientError),
            (500, TransientError),
            (503, TransientError),
        ],
    )
    def test_statuses_say_what_to_do(
        self,
        opener: SourceOpener,
        put: Callable[[bytes], str],
        handler: type[Handler],
        status: int,
        expected: type[EvstreamError],
    ) -> None:
        pfn = put(b"0123456789")
        with opener.open(pfn) as source:
            handler.status = status
            with pytest.raises(expected) as caught:
                source.read_ranges([(0, 1)])
            assert type(caught.value) is expected
        with pytest.raises(expected), opener.open(pfn):
            pass
        with pytest.raises(expected):
            opener.signature(pfn)

    def test_nobody_there_is_transient(self, opener: SourceOpener, server: str) -> None:
        with pytest.raises(TransientError), opener.open("http://127.0.0.1:1/events.root"):
            pass


def test_local_files_need_no_fsspec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    (tmp_path / "events.root").write_bytes(b"root")
    with FsspecOpener().open(str(tmp_path / "events.root")) as source:
        assert source.read_ranges([(0, 4)]) == [b"root"]
    with pytest.raises(ConfigError), FsspecOpener().open("memory://x"):
        pass


def test_a_file_cut_after_it_was_opened_is_bad_data(tmp_path: Path) -> None:
    path = tmp_path / "events.root"
    path.write_bytes(bytes(1000))
    with FsspecOpener().open(str(path)) as source:
        os.truncate(path, 500)
        with pytest.raises(DataError, match="truncated"):
            source.read_ranges([(400, 200)])


def test_the_kernels_short_reads_are_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events.root"
    path.write_bytes(bytes(range(100)))
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, offset: pread(fd, min(size, 7), offset))
    with FsspecOpener().open(str(path)) as source:
        assert source.read_ranges([(3, 90)]) == [bytes(range(3, 93))]


@pytest.mark.parametrize(
    ("pfn", "expected"),
    [
        (".", RequestError),
        ("/dev/null", RequestError),
        ("a\x00b", RequestError),
        ("x" * 5000, RequestError),
        ("file://elsewhere/events.root", RequestError),
        ("noprotocol://x/events.root", RequestError),
        ("https://", RequestError),
        ("abfs://container/events.root", ConfigError),
        ("memory://", RequestError),
    ],
)
def test_names_that_cannot_be_opened(pfn: str, expected: type[EvstreamError]) -> None:
    with pytest.raises(expected), FsspecOpener().open(pfn):
        pass


def test_a_pipe_does_not_hold_us_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RequestError), FsspecOpener().open(str(tmp_path / "pipe")):
        pass


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_every_error_of_the_system_is_translated(number: int) -> None:
    told = translate(OSError(number, os.strerror(number)), "events.root")
    assert type(told) in (NotFoundError, AccessError, RequestError, TransientError)
    assert "events.root" in str(told)
    assert told.hint


class ForeignError(Exception):
    """An error of a backend that nobody has heard of."""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (FileNotFoundError("x"), NotFoundError),
        (PermissionError("x"), AccessError),
        (TimeoutError(), TransientError),
        (ConnectionResetError(errno.ECONNRESET, "reset"), TransientError),
        (EOFError(), DataError),
        (ValueError("Protocol not known: x"), RequestError),
        (ImportError("Install s3fs to access S3"), ConfigError),
        (ForeignError("?"), TransientError),
        (DataError("ours"), DataError),
    ],
)
@pytest.mark.parametrize("call", ["info", "cat_ranges"])
def test_foreign_errors_never_come_through(
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    expected: type[EvstreamError],
    call: str,
) -> None:
    class Backend:
        async_impl = False

        def invalidate_cache(self, path: str) -> None:
            pass

        def info(self, path: str) -> dict[str, object]:
            if call == "info":
                raise error
            return {"size": 100, "type": "file"}

        def cat_ranges(self, *args: object, **options: object) -> list[bytes]:
            raise error

    opener = FsspecOpener()
    monkeypatch.setattr(opener, "_find", lambda pfn: (Backend(), "path"))
    with pytest.raises(expected) as caught, opener.open("gcs://bucket/events.root") as source:
        source.read_ranges([(0, 1)])
    assert type(caught.value) is expected


def test_what_keeps_fsspec_from_asking_is_told_as_it_is() -> None:
    hidden = FileNotFoundError("http://host/events.root")
    hidden.__cause__ = ConnectionRefusedError(errno.ECONNREFUSED, "refused")
    assert isinstance(translate(hidden, "http://host/events.root"), TransientError)


def test_a_relative_path_is_refused() -> None:
    for ask in (FsspecOpener().open, FsspecOpener().signature):
        with pytest.raises(RequestError, match="is a relative path"):
            ask("events.root")


def test_messages_hold_no_secrets() -> None:
    with pytest.raises(EvstreamError) as caught:
        FsspecOpener().signature("https://me:pw@127.0.0.1:1/events.root?token=abc")
    assert "abc" not in str(caught.value)
    assert "pw" not in str(caught.value)


def test_options_reach_their_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, object] = {}

    def url_to_fs(pfn: str, **options: object) -> tuple[object, str]:
        given.update(options)
        raise FileNotFoundError(pfn)

    monkeypatch.setattr("fsspec.core.url_to_fs", url_to_fs)
    opener = FsspecOpener({"s3": {"anon": True}, "gcs": {"project": "x"}})
    with pytest.raises(NotFoundError), opener.open("simplecache::s3://bucket/events.root"):
        pass
    times = {
        "connect_timeout": opener_module.CONNECT_S_MAX,
        "read_timeout": opener_module.PROGRESS_S_MAX,
    }
    assert given == {"s3": {"config_kwargs": times, "anon": True}}


@pytest.mark.parametrize(
    ("ranges", "groups"),
    [
        ([], []),
        ([(5, 0)], []),
        ([(0, 10), (10, 10)], [(0, 20, [0, 1])]),
        ([(20, 5), (0, 10)], [(0, 25, [1, 0])]),
        ([(0, 10), (21, 1)], [(0, 10, [0]), (21, 22, [1])]),
        ([(0, 50), (10, 5), (55, 5)], [(0, 60, [0, 1, 2])]),
        ([(0, 90), (90, 20)], [(0, 90, [0]), (90, 110, [1])]),
        ([(0, 500), (100, 10)], [(0, 500, [0, 1])]),
    ],
)
def test_ranges_are_grouped(
    ranges: list[tuple[int, int]], groups: list[tuple[int, int, list[int]]]
) -> None:
    assert coalesce(ranges, gap_bytes_max=10, span_bytes_max=100) == groups
