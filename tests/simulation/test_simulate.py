"""Seeds by the command line."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from evstream.testing import simulate
from evstream.testing.simulated_edges import EdgeScenario
from evstream.testing.simulator import Scenario

MAKEFILE = Path(__file__).parents[2] / "Makefile"


def scenario(*flags: str) -> Scenario:
    return simulate.scenario_of(simulate.parser().parse_args(flags))


def test_flags_say_what_is_simulated() -> None:
    assert scenario() == Scenario()
    asked = scenario(
        "--edges", "3", "--troubles", "2", "--wrong", "--chained", "1", "--bundles", "9"
    )
    edges = EdgeScenario(3, troubles=2, wrong=True, requests=2)
    assert asked == Scenario(chained=1, edges=edges, bundle_bytes=9)
    assert scenario("--edges", "3", "--requests", "0").edges.requests == 0


def test_every_flag_can_be_given_to_make() -> None:
    known = set(re.findall(r"--(\w+)", simulate.parser().format_usage())) - {"help"}
    named = re.findall(r"^SIM_\w+ := (.+)$", MAKEFILE.read_text(), re.MULTILINE)
    assert {"seed", "count", *" ".join(named).lower().split()} == known


def test_a_seed_prints_what_came_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    logging.disable(logging.CRITICAL)
    simulate.main(["--seed", "3", "--edges", "2", "--troubles", "1", "--crashes", "0"])
    logging.disable(logging.NOTSET)
    assert "Outcome(seed=3" in capsys.readouterr().out
