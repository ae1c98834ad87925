"""A ledger that is killed at any instant holds everything that it acknowledged."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from evstream.adapters.catalogue.sqlite import DATABASE_NAME, SqliteDatabase
from evstream.adapters.clock import SystemClock
from evstream.domain.ledger import BookRules, RangeReport, Success
from evstream.domain.names import LeaseId, Lfn, WorkerId
from evstream.domain.splitting import Chunk
from evstream.domain.states import Answer
from evstream.ports.ledger import Ledger

BOOK = 2
CHUNKS = [Chunk(number, Lfn("a.root"), 0, 100_000) for number in range(4)]
CLIENTS = 16
KILLS = 12


async def client(ledger: Ledger, name: str) -> None:
    """Claim and report for ever, saying what was acknowledged."""
    worker = WorkerId(name)
    for number in range(10**9):
        lease = LeaseId(f"{name}-{number}")
        held = await ledger.claim_ranges(lease, worker, 2, timedelta(hours=1), [BOOK])
        say(*(f"held {row.chunk} {row.entry_start} {row.entry_stop}" for row in held))
        words = [
            RangeReport(
                lease,
                worker,
                BOOK,
                row.chunk,
                row.entry_start,
                row.entry_start + 1,
                row.attempt,
                Success(()),
            )
            for row in held
        ]
        answers = await ledger.report_ranges(words)
        assert set(answers) == {Answer.ACCEPTED}
        say(*(f"done {word.chunk} {word.entry_start} {word.entry_stop}" for word in words))


def say(*lines: str) -> None:
    # One write each: a kill tears no line, and nothing waits in a buffer.
    for line in lines:
        os.write(1, line.encode() + b"\n")


async def serve(directory: Path, session: str) -> None:
    database = SqliteDatabase(directory, SystemClock())
    await database.ledger.open_book(BOOK, BookRules(1), CHUNKS)
    clients = (client(database.ledger, f"{session}-{number}") for number in range(CLIENTS))
    await asyncio.gather(*clients)


def killed_after(directory: Path, session: str, lines: int) -> set[tuple[str, int, int, int]]:
    """Run a service until it has said so many lines, kill it; return what it acknowledged."""
    said: list[str] = []
    command = [sys.executable, __file__, str(directory), session]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if len(said) == lines:
                process.kill()
    assert len(said) >= lines, "the service ended by itself"
    return {
        (word, int(chunk), int(start), int(stop))
        for word, chunk, start, stop in (line.split() for line in said)
    }


@pytest.mark.server
def test_what_was_acknowledged_survives_a_kill(tmp_path: Path, rng: random.Random) -> None:
    acknowledged: set[tuple[str, int, int, int]] = set()
    for kill in range(KILLS):
        acknowledged |= killed_after(tmp_path, f"s{kill}", rng.randint(1, 800))
        asyncio.run(check(tmp_path, acknowledged))
    done = sum(word == "done" for word, *_ in acknowledged)
    print(f"{KILLS} kills, {len(acknowledged)} answers, {done} commits: all there")


async def check(directory: Path, acknowledged: set[tuple[str, int, int, int]]) -> None:
    connection = sqlite3.connect(directory / DATABASE_NAME)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    database = SqliteDatabase(directory, SystemClock())
    done = [(c.chunk, c.entry_start, c.entry_stop) for c in await database.ledger.commits(BOOK)]
    leases = [
        (row.chunk, row.entry_start, row.entry_stop) for row in await database.ledger.leases()
    ]
    progress = await database.ledger.progress(BOOK)
    await database.close()
    committed = {entry for piece in done for entry in entries_of(*piece)}
    assert len(committed) == progress.finished == len(done)
    leased = {entry for piece in leases for entry in entries_of(*piece)}
    assert committed.isdisjoint(leased)
    for word, *piece in acknowledged:
        # What was held may have been committed since, unheard.
        there = committed if word == "done" else committed | leased
        assert there.issuperset(entries_of(*piece)), f"{word} {piece} is lost"


def entries_of(chunk: int, start: int, stop: int) -> set[tuple[int, int]]:
    return {(chunk, entry) for entry in range(start, stop)}


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), sys.argv[2]))
