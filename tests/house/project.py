"""Reads what pyproject.toml and constraints.txt say."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

REPOSITORY = Path(__file__).resolve().parents[2]


def pyproject() -> dict[str, Any]:
    """Return pyproject.toml."""
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))


def normal(name: str) -> str:
    """Return a distribution's name in its normal form."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(*groups: str) -> list[Requirement]:
    """Return the requirements of groups; without any, of all: runtime, extras and build."""
    project = pyproject()["project"]
    extras = project["optional-dependencies"]
    build = pyproject()["build-system"]["requires"]
    everything = {"dependencies": project["dependencies"], "build": build, **extras}
    return [Requirement(text) for group in groups or everything for text in everything[group]]


def distribution_names(*groups: str) -> set[str]:
    """Name the distributions of groups of requirements."""
    return {normal(requirement.name) for requirement in requirements(*groups)}


def constraint_lines() -> list[str]:
    """Return the lines of constraints.txt that are not comments."""
    text = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]
