"""Several heads on one PostgreSQL: one store, one plan of merges, one end."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest

from evstream.assembly import connect
from evstream.client import Address
from evstream.domain.names import LeaseId
from evstream.wire.work_messages import ClaimRequest
from tests.postgresql import Server
from tests.spine.commands import CommandLine

pytestmark = [pytest.mark.server, pytest.mark.slow]


def test_a_head_with_another_store_is_refused(
    command: CommandLine, tmp_path: Path, postgresql: Server
) -> None:
    url = postgresql.new_database()
    command.serve(tmp_path / "one", "--catalogue", url)
    words = ("serve", "--data", tmp_path / "two", "--catalogue", url)
    refused = command.run(*words, status=1).stderr
    assert "is not the store that this ledger's outputs are in" in refused
    assert f"{tmp_path}/two/outputs/.store/id" in refused
    # With the same store it serves.
    shared = {"EVSTREAM_OUTPUTS_DIR": str(tmp_path / "one/outputs")}
    command.serve(tmp_path / "two", "--catalogue", url, **shared)


def test_a_store_that_is_not_there_is_not_begun_anew(command: CommandLine, tmp_path: Path) -> None:
    data, away = tmp_path / "data", tmp_path / "away"
    command.end(command.serve(data))
    (data / "outputs").rename(away)
    assert "is not the store" in command.run("serve", "--data", data, status=1).stderr
    known = (away / ".store/id").read_text()
    # As the error says: they are given up.
    (data / "outputs/.store/id").write_text(known)
    command.serve(data)


def test_two_heads_with_pilots_merge_one_task(
    command: CommandLine, tmp_path: Path, events: list[Path], postgresql: Server
) -> None:
    url = postgresql.new_database()
    heads = [tmp_path / "one", tmp_path / "two"]
    settings = {"EVSTREAM_OUTPUTS_DIR": str(tmp_path / "outputs"), "EVSTREAM_MERGE_INPUTS_MAX": "3"}
    for data in heads:
        command.serve(data, "--catalogue", url, **settings)
    words = ("--payload", "cp {input} {output}", "--events-per-range", 10, "--merge-events", 120)
    task = int(command.json("submit", *events, *words, "--data", heads[0])["id"])
    for data in heads:
        command.start("pilot", "--data", data)
    command.run("status", task, "--watch", "--data", heads[1])
    shown = command.json("status", task, "--data", heads[0])
    assert (shown["state"], shown["process"]["finished"]) == ("done", 1000)
    # Forty groups of three or fewer, and what joins them: each was made once.
    assert shown["process"]["attempts"] == 100
    command.run("task", "outputs", task, "results", "--data", heads[1])
    levels = command.json("verify", "results/receipt.json")
    assert [level["holds"] for level in levels] == [True] * 4, levels


def test_what_one_head_is_told_the_next_claim_at_another_obeys(
    command: CommandLine, tmp_path: Path, events: list[Path], postgresql: Server
) -> None:
    url = postgresql.new_database()
    one, other = tmp_path / "one", tmp_path / "two"
    for data in (one, other):
        command.serve(data, "--catalogue", url, EVSTREAM_OUTPUTS_DIR=str(tmp_path / "outputs"))
    leases = itertools.count()

    async def claim() -> int:
        service = connect(Address.read(other), 30.0)
        try:
            lease = LeaseId(f"lease-{next(leases)}")
            return len((await service.claim(ClaimRequest("anne", 1, 60.0), lease)).units)
        finally:
            await service.close()

    def claimed() -> int:
        return asyncio.run(claim())

    def submit() -> int:
        words = ("--payload", "cp {input} {output}", "--events-per-range", 10)
        return int(command.json("submit", *events, *words, "--data", one)["id"])

    assert claimed() == 0
    task = submit()
    assert [claimed(), claimed()] == [1, 1]
    command.run("task", "pause", task, "--data", one)
    assert claimed() == 0
    command.run("task", "resume", task, "--data", one)
    assert [claimed(), claimed()] == [1, 1]
    command.run("task", "cancel", task, "--data", one)
    assert claimed() == 0
    submit()
    assert claimed() == 1
