"""A minute of fuzzing, shared among the targets; `make fuzz` does ten."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest

from tests.fuzz.campaign import Fuzzer, fuzzer, write_inputs

TARGETS = [
    "descriptor",
    "event_manifest",
    "event_sections",
    "event_segment",
    "gzip_text",
    "hdf5_layout",
    "hepmc",
    "kept_index",
    "lhe",
    "messages",
    "parquet_columns",
    "receipt",
    "rntuple",
    "root_baskets",
    "root_file",
    "root_index",
    "root_join",
    "root_streamers",
    "root_tree",
]
SECONDS = 60

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzer]:
    """Return a fuzzer with inputs to begin with."""
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("no wheel of atheris for this Python: pip install atheris")
    folder = tmp_path_factory.mktemp("fuzz")
    assert write_inputs(folder) == TARGETS
    with fuzzer(folder) as started:
        yield started


@pytest.mark.parametrize("target", TARGETS)
def test_a_minute_of_fuzzing_finds_nothing(target: str, prepared: Fuzzer, seed: int) -> None:
    outcome = prepared.fuzz(target, max(1, SECONDS // len(TARGETS)), 1 + seed % (2**31 - 1))
    assert outcome.status == 0, f"{outcome.found}\n{outcome.log}"
    assert outcome.runs > 1
