"""A minute of requests made from the OpenAPI document: no 500, and no breach of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.api_fuzzing import cases_of, fuzz, serve
from tests.spine.commands import CommandLine

SECONDS = 60


@pytest.mark.server
@pytest.mark.slow
def test_a_service_keeps_to_its_document(tmp_path: Path, seed: int) -> None:
    command = CommandLine(tmp_path)
    try:
        url, token = serve(command, tmp_path)
        status, output = fuzz(url, token, tmp_path, seconds=SECONDS, seed=seed % (1 << 32))
    finally:
        command.end_all()
    assert status == 0, output
    assert cases_of(output) > 0, output
