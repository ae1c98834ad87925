"""What users are told of a change: one file each, written for them."""

from __future__ import annotations

import re
from pathlib import Path

from tests.house.project import REPOSITORY

CHANGES = sorted(p for p in (REPOSITORY / "changes").glob("*") if p.name != "README.md")
LINES_MAX = 20
KINDS = ("feature", "fix", "change", "removal", "doc")


def fault_of(path: Path) -> str | None:
    """Say what is wrong with one file of changes."""
    text = path.read_text(encoding="utf-8")
    if not re.fullmatch(rf"[a-z0-9][a-z0-9-]*\.({'|'.join(KINDS)})\.md", path.name):
        return f"name it TOPIC.KIND.md, KIND one of {', '.join(KINDS)}"
    if not text.strip() or not text.endswith("\n"):
        return "say what changes for users, and end the line"
    if text.startswith("#"):
        return "no heading: the release notes have them"
    if len(text.splitlines()) > LINES_MAX:
        return "one change, not a chapter"
    return None


def test_changes_are_well_formed() -> None:
    faults = {path.name: fault for path in CHANGES if (fault := fault_of(path))}
    assert not faults


def test_the_kinds_are_described() -> None:
    readme = (REPOSITORY / "changes" / "README.md").read_text(encoding="utf-8")
    assert all(f"`{kind}`" in readme for kind in KINDS)
