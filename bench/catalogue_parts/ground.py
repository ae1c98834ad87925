"""A PostgreSQL server of the benchmark's own, with databases for both sides."""

from __future__ import annotations

import itertools
from urllib.parse import quote

import psycopg

from bench.harness import Bench
from tests.postgresql import Server

SETTINGS = {
    "listen_addresses": "''",
    "max_connections": "200",
    "shared_buffers": "4GB",
    "maintenance_work_mem": "1GB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "15min",
    "wal_compression": "on",
}
"""The same for both sides; all else is PostgreSQL's own, fsync included."""
CLIENTS = 16
RUNS = itertools.count(1)


class Ground:
    """What the parts measure on."""

    def __init__(self, bench: Bench, server: Server) -> None:
        self.bench = bench
        self._server = server
        self.panda = server.new_database()
        self.ours = server.new_database()

    def new_database(self) -> str:
        """Make an empty database; return its URL."""
        return self._server.new_database()


def with_commits(url: str, *, durable: bool) -> str:
    """Return a URL whose connections wait for the disk at each commit, or do not."""
    setting = quote(f"-csynchronous_commit={'on' if durable else 'off'}")
    return f"{url}&options={setting}"


def ask(url: str, question: str) -> tuple[int, ...]:
    """Return the one row that a question has for an answer."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(question.encode()).fetchone()
        assert row is not None, question
        return tuple(row)
