"""A pilot that works beside an edge, on what this edge holds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from evstream.assembly import connect
from evstream.client import Address, Service
from evstream.domain.states import TaskState
from tests.spine.commands import CommandLine, wait_until

pytestmark = pytest.mark.server
T = TypeVar("T")


def ask(data: Path, question: Callable[[Service], Awaitable[T]]) -> T:
    """Ask the service something, as a client does."""

    async def asked() -> T:
        service = connect(Address.read(data), patience_s=10.0)
        try:
            return await question(service)
        finally:
            await service.close()

    return asyncio.run(asked())


def committed(data: Path, task: int) -> dict[str, list[tuple[int, int]]]:
    """Return what is committed of each file of a task."""
    return {file.lfn: file.committed for file in ask(data, lambda one: one.entries(task))}


def test_a_pilot_works_on_what_its_edge_holds(
    command: CommandLine, tmp_path: Path, events: list[Path]
) -> None:
    data = tmp_path / "data"
    command.serve(data)
    door = ("--data", data)
    command.run("dataset", "add", "user:two", *events, *door)
    command.run("edge", "add", "lyon", "https://edge.lyon.example.org", "--kind", "edge", *door)
    copy = ("replica", "add", "user:two")
    command.run(*copy, "b.root", "root://lyon.example.org//b.root", "--site", "lyon", *door)
    words = ("--payload", "cp {input} {output}", "--events-per-range", 50, "--merge")
    task = command.json("submit", "user:two", *words, *door)["id"]

    done = command.run("pilot", "--near", "tokyo", "--near-only", *door, status=2)
    assert "there is no edge tokyo" in done.stderr
    command.start("pilot", "--near", "lyon", "--near-only", *door)

    wait_until(lambda: committed(data, task)["b.root"] == [(0, 400)], "the file that is near")
    assert committed(data, task)["a.root"] == []
    # It waits, and finds what comes near; the merge is nobody's file.
    command.run(*copy, "a.root", "root://lyon.example.org//a.root", "--site", "lyon", *door)
    wait_until(
        lambda: ask(data, lambda one: one.task(task)).state is TaskState.DONE, "the end of the task"
    )
