"""Every dependency has its reason and its version."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.house.project import (
    REPOSITORY,
    constraint_lines,
    distribution_names,
    normal,
    requirements,
)

PAGE = REPOSITORY / "docs" / "reference" / "dependencies.md"


def rows() -> dict[str, list[str]]:
    """Return the cells of the page's tables by the distribution in the first one."""
    found = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and (name := re.fullmatch(r"`([\w.-]+)`", cells[0])):
            found[normal(name[1])] = cells[1:]
    return found


@pytest.mark.parametrize("name", sorted(distribution_names()))
def test_a_dependency_has_its_reason(name: str) -> None:
    cells = rows().get(name)
    assert cells, f"{name} has no line in {PAGE.name}"
    assert len(cells) == 2, "what it does for us, and why not our own code"
    assert all(len(cell) > 10 for cell in cells)


def test_the_page_names_nothing_else() -> None:
    assert set(rows()) == distribution_names()


def test_versions_are_pinned_by_constraints_alone() -> None:
    for line in constraint_lines():
        assert re.fullmatch(r"[A-Za-z0-9][\w.-]*==[\w.!+]+", line), line
    names = [normal(line.partition("==")[0]) for line in constraint_lines()]
    assert len(names) == len(set(names))
    assert distribution_names() <= set(names)


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_the_pinned_version_is_one_that_we_accept(requirement: Requirement) -> None:
    pins = dict(line.split("==") for line in constraint_lines())
    versions = {normal(name): version for name, version in pins.items()}
    assert requirement.specifier.contains(versions[normal(requirement.name)], prereleases=True)


def test_what_dependencies_need_is_pinned_too() -> None:
    pinned = {normal(line.partition("==")[0]) for line in constraint_lines()}
    pending, seen = set(distribution_names()), set()
    while pending:
        name = pending.pop()
        seen.add(name)
        try:
            needed = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            # Not set up here, such as what only `make demo` needs.
            continue
        for text in needed:
            requirement = Requirement(text)
            wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if wanted and normal(requirement.name) not in seen:
                pending.add(normal(requirement.name))
    assert not seen - pinned


def test_commands_load_what_takes_long_when_they_need_it() -> None:
    program = """
import sys
from pathlib import Path
import evstream.cli.commands
print([name for name in ("numpy", "aiohttp", "starlette", "psycopg") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout == "[]\n"


def test_a_pilot_loads_what_looks_into_files_when_it_does(tmp_path: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from pathlib import Path
import evstream.cli.commands, evstream.cli.pilot
from evstream.assembly import connect, make_pilot
from evstream.client import Address
from evstream.domain.names import WorkerId
from evstream.pilot import PilotSettings
from evstream.settings import Settings
service = connect(Address("http://localhost:1"), 1.0)
make_pilot(service, Settings(), PilotSettings(), Path({str(tmp_path)!r}), WorkerId("one"))
heavy = ("numpy", "zstandard", "h5py", "pyarrow", "evstream.rootio.index", "evstream.head")
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout == "[]\n"
