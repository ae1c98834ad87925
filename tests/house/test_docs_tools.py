"""What checks and builds the pages."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tools.build_docs import build
from tools.check_docs import anchors_of, faults_of, pages_of


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = (tmp_path / "repository").resolve()
    (folder / "docs" / "how-to").mkdir(parents=True)
    subprocess.run(["git", "init", "-q", folder], check=True)
    (folder / "docs" / "how-to" / "cut.md").write_text("# How to `cut`\n\n## Twice\n\n## Twice\n")
    return folder


def faults(repository: Path, text: str) -> list[str]:
    """Return what is wrong with a README."""
    page = repository / "README.md"
    page.write_text(text)
    return list(faults_of(page, repository))


@pytest.mark.parametrize(
    "target", ["docs/how-to/cut.md", "docs/how-to/cut.md#how-to-cut", "https://x.org/y", "docs"]
)
def test_links_that_lead_somewhere(repository: Path, target: str) -> None:
    assert faults(repository, f"[a link]({target})\n") == []


@pytest.mark.parametrize(
    ("target", "fault"),
    [
        ("docs/gone.md", "does not exist"),
        ("docs/how-to/cut.md#gone", "names no heading"),
        ("/docs/how-to/cut.md", "is absolute"),
        ("../elsewhere.md", "leads out"),
        ("#gone", "names no heading"),
    ],
)
def test_links_that_lead_nowhere(repository: Path, target: str, fault: str) -> None:
    [found] = faults(repository, f"# Title\n\n[a link]({target})\n")
    assert found.startswith("README.md:3: ")
    assert fault in found


def test_links_in_tables_and_pictures_are_seen(repository: Path) -> None:
    assert len(faults(repository, "| a |\n|---|\n| [x](gone.md) |\n\n![y](gone.png)\n")) == 2


def test_python_blocks_are_python(repository: Path) -> None:
    good = "```python\nasync with x as y:\n    await y\n```\n```python\n>>> 1 + 1\n2\n```\n"
    assert faults(repository, good) == []
    [found] = faults(repository, "```python\nfor x in:\n```\n")
    assert "does not parse" in found


def test_anchors_are_numbered_when_repeated(repository: Path) -> None:
    anchors = anchors_of(repository / "docs" / "how-to" / "cut.md")
    assert anchors == {"how-to-cut", "twice", "twice-1"}


def test_ignored_pages_are_left_alone(repository: Path) -> None:
    (repository / ".gitignore").write_text("build/\n")
    (repository / "build").mkdir()
    (repository / "build" / "made.md").write_text("[x](gone.md)\n")
    assert [page.name for page in pages_of(repository)] == ["cut.md"]


def test_built_pages_link_to_each_other(repository: Path, tmp_path: Path) -> None:
    (repository / "docs" / "picture.svg").write_text("<svg/>")
    (repository / "README.md").write_text(
        "# Front\n\n[cut](docs/how-to/cut.md#twice) ![p](docs/picture.svg) [code](code.py)\n"
    )
    target = tmp_path / "site"
    assert sorted(path.name for path in build(repository, target)) == ["cut.html", "index.html"]
    front = (target / "index.html").read_text()
    assert 'href="docs/how-to/cut.html#twice"' in front
    assert (target / "docs" / "picture.svg").exists()
    assert "code.py" not in front
    cut = (target / "docs" / "how-to" / "cut.html").read_text()
    assert 'id="how-to-cut"' in cut
    assert 'href="../../index.html"' in cut
