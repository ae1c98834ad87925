"""A disk that is really full: nothing that was accepted is lost, and work goes on."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from evstream.adapters.catalogue.sqlite import SqliteDatabase
from evstream.adapters.offload import InPlace
from evstream.adapters.storage.local import PARTIAL, LocalStore
from evstream.domain.errors import TransientError
from evstream.domain.ledger import BookRules, RangeReport, Success
from evstream.domain.names import LeaseId, Lfn, WorkerId
from evstream.domain.splitting import Chunk
from evstream.domain.states import Answer
from evstream.testing.contracts.output_store import pieces_of
from evstream.testing.manual_clock import ManualClock

pytestmark = [pytest.mark.anyio, pytest.mark.root_user]
WORKER = WorkerId("anne")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def test_the_store_leaves_nothing_behind(disk: Path) -> None:
    store = LocalStore(disk, InPlace())
    kept = await store.put("a/kept", pieces_of(bytes(500_000)))
    with pytest.raises(TransientError, match="no space is left"):
        await store.put("a/large", pieces_of(*[bytes(1 << 20)] * 8))
    assert await store.names() == ["a/kept"]
    assert list((disk / PARTIAL).iterdir()) == []
    assert await store.stat("a/kept") == kept
    await store.put("a/small", pieces_of(bytes(100_000)))


async def test_the_ledger_keeps_what_it_accepted(disk: Path) -> None:
    database = SqliteDatabase(disk, ManualClock())
    ledger = database.ledger
    await ledger.open_book(2, BookRules(1), [Chunk(0, Lfn("a.root"), 0, 10**6)])
    accepted, refused = [], 0
    filler = disk / "filler"
    for number in range(40):
        lease = LeaseId(f"lease-{number}")
        try:
            (row,) = await ledger.claim_ranges(lease, WORKER, 50, timedelta(minutes=1), [2])
            words = [
                RangeReport(lease, WORKER, 2, 0, entry, entry + 1, row.attempt, Success(()))
                for entry in range(row.entry_start, row.entry_stop)
            ]
            assert set(await ledger.report_ranges(words)) == {Answer.ACCEPTED}
            accepted += [word.entry_start for word in words]
        except TransientError:
            refused += 1
        if number == 10:
            fill(filler)
        if number == 30:
            filler.unlink()
    assert refused
    assert len(accepted) > 11 * 50
    assert {commit.entry_start for commit in await ledger.commits(2)} == set(accepted)
    await database.close()


def fill(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
