"""Requests made from the OpenAPI document: no 500, and no breach of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.api_fuzzing import KINDS, cases_of, fuzz, start
from tests.spine.commands import CommandLine

SECONDS = {"serve": 60, "head": 15, "edge": 10}
"""Most is in `serve`; a head and an edge alone serve a part of it, put together differently."""


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_service_keeps_to_its_document(kind: str, tmp_path: Path, seed: int) -> None:
    command = CommandLine(tmp_path)
    try:
        door = start(kind, command, tmp_path)
        seconds = SECONDS[kind]
        status, output = fuzz(kind, door, tmp_path, seconds=seconds, seed=seed % (1 << 32))
    finally:
        command.end_all()
    assert status == 0, output
    assert cases_of(output) > 0, output
