"""A catalogue is backed up while pilots work, lost, and restored: work goes on to the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.postgresql import Server, server
from tests.spine.commands import CommandLine, wait_until
from tests.spine.test_postgresql import check_results, finished, submit

pytestmark = [pytest.mark.server, pytest.mark.slow]
# Leases that the backup holds are nobody's any more: they end soon, and outputs with them.
QUICK = {"EVSTREAM_LEASE_S": "5", "EVSTREAM_SWEEP_EVERY_S": "1"}
Words = tuple[object, ...]


class OnSqlite:
    """Backups by evstream's own command."""

    def __init__(self, command: CommandLine, data: Path) -> None:
        self._command, self._data = command, data
        self._file = data.parent / "backup.sqlite"
        self.words: Words = ()

    def back_up(self) -> None:
        self._command.run("catalogue", "backup", self._file, "--data", self._data)

    def restore(self) -> None:
        done = self._command.run("catalogue", "restore", self._file, "--data", self._data)
        assert "ledger.sqlite.replaced" in done.stdout


class OnPostgresql:
    """Backups by the database's own programs."""

    def __init__(self, own: Server) -> None:
        self._server = own
        self._url = own.new_database()
        self._file = own.socket.parent / "backup.dump"
        self.words: Words = ("--catalogue", self._url)

    def back_up(self) -> None:
        self._server.run("pg_dump", "--format=custom", "--file", self._file, self._url)

    def restore(self) -> None:
        with psycopg.connect(self._server.url, autocommit=True) as administrator:
            name = psycopg.conninfo.conninfo_to_dict(self._url)["dbname"]
            administrator.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
        self._url = self._server.new_database()
        self._server.run("pg_restore", "--exit-on-error", "--dbname", self._url, self._file)
        self.words = ("--catalogue", self._url)


@pytest.fixture
def keeper(
    database: str, command: CommandLine, tmp_path: Path
) -> Iterator[OnSqlite | OnPostgresql]:
    if database == "sqlite":
        yield OnSqlite(command, tmp_path / "data")
        return
    with server() as own:
        yield OnPostgresql(own)


@pytest.mark.parametrize(("database", "merge"), [("sqlite", ("--merge",)), ("postgresql", ())])
def test_work_goes_on_from_a_backup(
    command: CommandLine,
    tmp_path: Path,
    events: list[Path],
    keeper: OnSqlite | OnPostgresql,
    merge: tuple[str, ...],
) -> None:
    data = tmp_path / "data"
    service = command.serve(data, *keeper.words, **QUICK)
    (tmp_path / "payload.sh").write_text("sleep 0.1; cp $1 $2")
    payload = f"sh {tmp_path}/payload.sh {{input}} {{output}}"
    task = submit(command, data, events, *merge, payload=payload)
    pilot = command.start("pilot", "--data", data, "--cores", 1, **QUICK)
    wait_until(lambda: finished(data, task) >= 100, "some work")
    keeper.back_up()
    enough = min(finished(data, task) + 100, 1000)
    wait_until(lambda: finished(data, task) >= enough, "work after the backup")
    for process in (service, pilot):
        command.end(process)
    keeper.restore()
    (data / "address.json").unlink(missing_ok=True)
    command.serve(data, *keeper.words, **QUICK)
    assert 100 <= finished(data, task) < 1000
    command.start("pilot", "--data", data, "--cores", 2, **QUICK)
    command.run("status", task, "--watch", "--data", data)
    check_results(command, data, task)
    # What was stored after the backup, and is no part of the result, goes.
    outputs = data / "outputs"
    wait_until(lambda: len(stored(outputs, task)) == (1 if merge else 100), "the sweep")


def stored(outputs: Path, task: int) -> list[Path]:
    """Return the outputs that are in the store, but for logs."""
    folder = outputs / "tasks" / str(task) / "output"
    return [path for path in folder.rglob("*") if path.is_file()]
