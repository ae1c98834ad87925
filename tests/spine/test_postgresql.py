"""``evstream serve --catalogue postgresql://…`` with pilots at work, and a server that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from evstream.client import Address
from tests.postgresql import Server, server
from tests.spine.commands import CommandLine, wait_until

pytestmark = [pytest.mark.server, pytest.mark.slow]
PATIENT = {"EVSTREAM_PATIENCE_S": "120"}


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server that the test may stop."""
    with server() as started:
        yield started


def get(data: Path, path: str) -> httpx2.Response:
    address = Address.read(data)

    async def ask() -> httpx2.Response:
        async with httpx2.AsyncClient(
            transport=address.transport(), base_url=address.base_url, timeout=60
        ) as client:
            return await client.get(path)

    return asyncio.run(ask())


def finished(data: Path, task: int) -> int:
    return int(get(data, f"/v1/tasks/{task}").json()["process"]["finished"])


def submit(
    command: CommandLine,
    data: Path,
    events: list[Path],
    *words: object,
    payload: str = "cp {input} {output}",
) -> int:
    work = ["--payload", payload, "--events-per-range", 10, *words]
    return int(command.json("submit", *events, *work, "--data", data)["id"])


def check_results(command: CommandLine, data: Path, task: int) -> None:
    """Fetch the outputs; see that the receipt holds and says that every event is there."""
    assert command.json("status", task, "--data", data)["process"]["finished"] == 1000
    command.run("task", "outputs", task, "results", "--data", data)
    levels = command.json("verify", "results/receipt.json")
    assert [level["holds"] for level in levels] == [True] * 4, levels


def test_a_database_that_is_away_while_pilots_work(
    command: CommandLine, tmp_path: Path, events: list[Path], own_server: Server
) -> None:
    data = tmp_path / "data"
    service = command.serve(data, "--catalogue", own_server.url)
    task = submit(command, data, events, "--merge")
    pilot = command.start("pilot", "--data", data, "--cores", 2, **PATIENT)
    wait_until(lambda: finished(data, task) > 50, "the first ranges")
    own_server.stop()
    refused = [get(data, f"/v1/tasks/{task}") for _ in range(10)]
    assert {answer.status_code for answer in refused} == {503}
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
    assert "the database is away" in refused[0].json()["detail"]
    # What needs no database is there.
    assert get(data, "/v1/health").status_code == 200
    assert (service.poll(), pilot.poll()) == (None, None)
    own_server.start()
    command.run("status", task, "--watch", "--data", data, env=PATIENT)
    assert (service.poll(), pilot.poll()) == (None, None)
    check_results(command, data, task)


def test_a_database_that_is_not_there_at_the_start(command: CommandLine, tmp_path: Path) -> None:
    nowhere = f"postgresql://evstream@/evstream?host={tmp_path}"
    done = command.run("serve", "--data", tmp_path / "data", "--catalogue", nowhere, status=1)
    assert done.stderr.startswith("evstream: error: the database is away or busy")
    assert len(done.stderr.splitlines()) == 1
    # The folder was given back.
    command.serve(tmp_path / "data")


def test_a_database_of_another_kind(command: CommandLine, tmp_path: Path) -> None:
    words = (
        "--data",
        tmp_path / "data",
        "--catalogue",
        "mysql://anne:secret@db.example.org/events",
    )
    done = command.run("serve", *words, status=1)
    assert "mysql://db.example.org/events is no PostgreSQL" in done.stderr
    assert "secret" not in done.stderr
