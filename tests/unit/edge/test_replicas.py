"""Which replica comes first, and how many threads one origin may block."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from evstream.domain.errors import DataError, TransientError
from evstream.domain.names import Pfn
from evstream.edge.replicas import BACKOFF_S_MAX, OriginTurns, Replicas, origin_of

A, B, C = Pfn("root://one:1094//a"), Pfn("root://two//a"), Pfn("/disk/a")


@pytest.mark.parametrize(
    ("pfn", "origin"),
    [
        ("/disk/a", ""),
        ("file:///disk/a", ""),
        ("https://me:pw@Host:8443/a?token=x", "https://host:8443"),
        ("root://[::1]:1094//a", "root://[::1]:1094"),
        ("root://cache:1094//root://origin//a", "root://cache:1094"),
        ("s3://bucket/a", "s3://bucket"),
        ("http://[broken/a", "http://[broken/a"),
    ],
)
def test_a_file_is_somewhere(pfn: str, origin: str) -> None:
    assert origin_of(pfn) == origin


def test_what_failed_goes_last_for_a_while_and_longer_each_time() -> None:
    now = 0.0
    replicas = Replicas(lambda: now)
    assert replicas.in_order([A, B, C, A]) == [A, B, C]
    waits = []
    for _ in range(8):
        replicas.failed(A, TransientError("down"))
        replicas.failed(A, TransientError("another reader of it"))
        assert replicas.in_order([A, B, C]) == [B, C, A]
        began = now
        while replicas.is_passed_over(A):
            now += 0.5
        waits.append(now - began)
    assert waits[:4] == [1, 4, 16, 64]
    assert waits[-1] == BACKOFF_S_MAX
    replicas.failed(A, TransientError("down"))
    replicas.worked(A)
    assert replicas.in_order([A, B, C]) == [A, B, C]


def test_a_server_that_is_down_is_passed_over_with_all_its_files() -> None:
    replicas = Replicas(lambda: 0.0)
    other = Pfn("root://one:1094//b")
    replicas.failed(A, DataError("damaged"))
    assert replicas.in_order([other, B]) == [other, B]
    replicas.failed(A, TransientError("down"))
    assert replicas.in_order([other, B]) == [B, other]


def test_an_origin_blocks_half_of_the_threads_that_others_leave() -> None:
    assert asyncio.run(turns_taken(8)) == {"one": 4, "two": 2, "three": 1, "four": 1, "five": 1}


async def turns_taken(threads: int) -> dict[str, int]:
    turns = OriginTurns(threads)
    held: dict[str, int] = {}
    async with AsyncExitStack() as stack:
        for origin in ("one", "two", "three", "four", "five"):
            held[origin] = 0
            while True:
                taking = asyncio.ensure_future(stack.enter_async_context(turns.turn(origin)))
                await asyncio.sleep(0)
                if not taking.done():
                    taking.cancel()
                    break
                held[origin] += 1
        async with turns.turn(""):
            pass
    return held


def test_whoever_waits_for_a_turn_gets_it() -> None:
    assert asyncio.run(turns_after_a_cancel()) == [0, 2, 3, 4]


async def turns_after_a_cancel() -> list[int]:
    turns = OriginTurns(2)
    done: list[int] = []

    async def work(number: int) -> None:
        async with turns.turn("one"):
            await asyncio.sleep(0)
            done.append(number)

    tasks = [asyncio.ensure_future(work(number)) for number in range(5)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return done
