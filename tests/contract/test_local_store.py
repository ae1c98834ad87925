"""The store in a folder: what a kill leaves, what the disk refuses, what is cheap."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evstream.adapters.offload import InPlace
from evstream.adapters.storage import local
from evstream.adapters.storage.local import PARTIAL, LocalStore, translate
from evstream.domain.errors import (
    ConfigError,
    ConflictError,
    EvstreamError,
    NotFoundError,
    RequestError,
    TransientError,
)
from evstream.ports.storage import Stored
from evstream.testing.contracts.output_store import NAME, OutputStoreContract, pieces_of

pytestmark = pytest.mark.anyio
CONTENT = b"events" * 1000


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


@pytest.fixture
def store(root: Path) -> LocalStore:
    return LocalStore(root, InPlace())


def files_below(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


# Leftovers


def test_what_a_killed_writer_left_is_swept(root: Path, store: LocalStore) -> None:
    (root / PARTIAL / "left").write_bytes(b"half")
    LocalStore(root, InPlace())
    assert files_below(root) == []


async def test_what_another_still_writes_is_not_swept(root: Path, store: LocalStore) -> None:
    written, go_on = asyncio.Event(), asyncio.Event()

    async def slowly() -> Any:
        yield bytes(local.WRITE_BYTES)
        written.set()
        await go_on.wait()
        yield b"tail"

    upload = asyncio.ensure_future(store.put(NAME, slowly()))
    await written.wait()
    LocalStore(root, InPlace())
    go_on.set()
    assert (await upload).size == local.WRITE_BYTES + 4
    assert files_below(root) == [NAME]


async def test_one_swept_before_it_was_locked_begins_again(
    root: Path, store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = local.fcntl.flock
    swept: list[int] = []

    def sweep_first(fd: int, operation: int) -> None:
        if not swept:
            swept.append(fd)
            LocalStore(root, InPlace())._sweep()
        flock(fd, operation)

    monkeypatch.setattr(local.fcntl, "flock", sweep_first)
    await store.put(NAME, pieces_of(CONTENT))
    assert swept
    assert files_below(root) == [NAME]


# What the disk refuses


class Faults:
    """Lets the nth call of the file system fail, whichever function it is."""

    FUNCTIONS = ("open", "write", "fsync", "link", "mkdir")

    def __init__(self, monkeypatch: pytest.MonkeyPatch, nth: int, number: int) -> None:
        self.left = nth
        self.failed = ""
        for name in self.FUNCTIONS:
            monkeypatch.setattr(os, name, self._wrap(name, getattr(os, name), number))

    def _wrap(self, name: str, call: Callable[..., Any], number: int) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                self.failed = name
                raise OSError(number, os.strerror(number))
            return call(*args, **options)

        return wrapped


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
async def test_whichever_call_fails_nothing_is_left(
    root: Path, store: LocalStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    failed: list[str] = []
    for nth in range(1, 100):
        with monkeypatch.context() as patched:
            faults = Faults(patched, nth, number)
            (answer,) = await asyncio.gather(
                store.put(f"{nth}/object", pieces_of(CONTENT)), return_exceptions=True
            )
        if not faults.failed:
            break
        failed.append(faults.failed)
        assert type(answer) is (ConfigError if number == errno.EROFS else TransientError)
        # The flush of the folder is the last step: the object is whole by then.
        whole = [name for name in files_below(root) if not name.startswith(PARTIAL)]
        assert [(root / name).read_bytes() for name in whole] == [CONTENT] * len(whole)
        assert list((root / PARTIAL).iterdir()) == []
        # Asked again, it is there.
        assert (await store.put(f"{nth}/object", pieces_of(CONTENT))).size == len(CONTENT)
    assert set(failed) == set(Faults.FUNCTIONS)


async def test_a_full_disk_says_so(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(TransientError, match=r"no space is left .* free space"):
        await store.put(NAME, pieces_of(CONTENT))


async def test_no_hard_links_is_a_matter_of_configuration(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(ConfigError, match="hard links"):
        await store.put(NAME, pieces_of(CONTENT))


async def test_a_folder_that_was_removed_is_made_again(root: Path, store: LocalStore) -> None:
    await store.put(NAME, pieces_of(CONTENT))
    await store.delete(NAME)
    (root / NAME).parent.rmdir()
    await store.put(NAME, pieces_of(CONTENT))
    assert files_below(root) == [NAME]


async def test_a_root_that_vanished_is_told(root: Path, store: LocalStore) -> None:
    shutil.rmtree(root)
    with pytest.raises(ConfigError, match="vanished"):
        await store.put(NAME, pieces_of(CONTENT))


async def test_a_name_below_an_object_is_refused(store: LocalStore) -> None:
    await store.put("a", pieces_of(CONTENT))
    with pytest.raises(ConflictError):
        await store.put("a/b", pieces_of(CONTENT))
    await store.put("b/c", pieces_of(CONTENT))
    with pytest.raises(EvstreamError):
        await store.put("b", pieces_of(CONTENT))


async def test_errors_of_the_content_come_through_as_they_are(store: LocalStore) -> None:
    async def broken() -> Any:
        yield b"half"
        raise ConnectionResetError("theirs, not the disk's")

    with pytest.raises(ConnectionResetError):
        await store.put(NAME, broken())


def test_a_root_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be used"):
        LocalStore(tmp_path / "file" / "outputs", InPlace())


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_every_error_of_the_system_is_translated(number: int) -> None:
    told = translate(OSError(number, os.strerror(number)), NAME)
    kinds = (TransientError, ConfigError, RequestError, ConflictError, NotFoundError)
    assert type(told) in kinds
    assert NAME in str(told)


# What is remembered


async def test_stat_reads_no_content(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = await store.put(NAME, pieces_of(CONTENT))
    monkeypatch.delattr(os, "pread")
    try:
        assert await store.stat(NAME) == stored
    except AttributeError:
        pytest.skip("this file system keeps no attributes")


@pytest.mark.parametrize("note", [None, b"", b"rubbish", b"1 2 3"])
async def test_a_lost_or_wrong_note_is_no_harm(
    root: Path, store: LocalStore, monkeypatch: pytest.MonkeyPatch, note: bytes | None
) -> None:
    def getxattr(*args: object) -> bytes:
        if note is None:
            raise OSError(errno.ENODATA, "No data available")
        return note

    stored = await store.put(NAME, pieces_of(CONTENT))
    monkeypatch.setattr(os, "getxattr", getxattr)
    assert await store.stat(NAME) == stored


async def test_an_object_cut_behind_our_back_is_described_as_it_is(
    root: Path, store: LocalStore
) -> None:
    await store.put(NAME, pieces_of(CONTENT))
    os.truncate(root / NAME, 10)
    stored = await store.stat(NAME)
    assert (stored.size, stored.sha256) == (10, hashlib.sha256(CONTENT[:10]).hexdigest())
    assert await OutputStoreContract.content(store) == CONTENT[:10]


async def test_folders_are_no_objects(root: Path, store: LocalStore) -> None:
    (root / "folder").mkdir()
    assert await store.names() == []
    with pytest.raises(NotFoundError):
        await store.stat("folder")
    with pytest.raises(RequestError):
        await store.names("../")


async def test_what_is_stored_together_fails_by_itself(root: Path, store: LocalStore) -> None:
    await store.put("7/taken", pieces_of(b"before"))
    names = [f"{number % 3}/object-{number}" for number in range(30)]
    answers = await asyncio.gather(
        *(store.put(name, pieces_of(name.encode())) for name in names),
        store.put("7/taken", pieces_of(b"after")),
        store.put("7/taken/below", pieces_of(b"below")),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers[30:]] == [ConflictError, ConflictError]
    assert [answer.name for answer in answers[:30] if isinstance(answer, Stored)] == names
    assert [(root / name).read_text() for name in names] == names
    assert (root / "7/taken").read_bytes() == b"before"
    assert list((root / PARTIAL).iterdir()) == []


async def test_who_goes_away_takes_nobody_along(root: Path, store: LocalStore) -> None:
    puts = [
        asyncio.create_task(store.put(f"1/object-{number}", pieces_of(CONTENT)))
        for number in range(9)
    ]
    await asyncio.sleep(0)
    for put in puts[::2]:
        put.cancel()
    answers = await asyncio.gather(*puts, return_exceptions=True)
    assert {type(answer) for answer in answers[1::2]} == {Stored}
    assert {type(answer) for answer in answers[::2]} == {asyncio.CancelledError}
    await store.put("1/after", pieces_of(CONTENT))
    assert list((root / PARTIAL).iterdir()) == []
