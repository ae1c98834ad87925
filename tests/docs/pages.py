"""The pages as tests see them: their code blocks and their tables."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

REPOSITORY = Path(__file__).resolve().parents[2]
REFERENCE = REPOSITORY / "docs" / "reference"


@dataclass(frozen=True)
class Block:
    """A fenced code block.

    Attributes
    ----------
    words : tuple of str
        The fence's info string: a language, then our own marks. ``server`` starts
        processes, ``by-hand`` cannot run in a test, ``file=NAME`` is a file to save.
    """

    page: Path
    line: int
    words: tuple[str, ...]
    text: str

    @property
    def lines(self) -> list[str]:
        """Commands, each on one line."""
        return self.text.replace("\\\n", " ").splitlines()

    @property
    def language(self) -> str:
        return self.words[0] if self.words else ""

    @property
    def file_name(self) -> str:
        return next((w.removeprefix("file=") for w in self.words if w.startswith("file=")), "")

    def __str__(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"


def pages() -> list[Path]:
    """Return the pages of the product: README, ARCHITECTURE and all of docs."""
    return [
        REPOSITORY / "README.md",
        REPOSITORY / "ARCHITECTURE.md",
        *sorted((REPOSITORY / "docs").rglob("*.md")),
    ]


def blocks(page: Path) -> list[Block]:
    """Return the code blocks of a page, in order."""
    return [
        Block(page, (token.map or [0])[0] + 1, tuple(token.info.split()), token.content)
        for token in MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8"))
        if token.type == "fence"
    ]


def all_blocks(language: str) -> list[Block]:
    """Return the blocks of one language on all pages."""
    return [b for page in pages() for b in blocks(page) if b.language == language]


def evstream_lines(block: Block) -> list[list[str]]:
    """Return the words of each ``evstream`` command in a console block."""
    found = []
    for line in block.lines:
        words = shlex.split(line)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words = words[1:]
        if words and words[0] == "evstream":
            found.append(words[1:])
    return found


def section(page: Path, title: str) -> str:
    """Return the text below a heading, up to the next one of its level or above."""
    text = page.read_text(encoding="utf-8")
    found = re.search(rf"^(#+) {re.escape(title)}$", text, re.MULTILINE)
    assert found, f"{page.name} has no heading {title!r}"
    rest = text[found.end() :]
    following = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
    return rest[: following.start()] if following else rest


def table(text: str, column: str) -> dict[str, dict[str, str]]:
    """Return the rows of the table whose first column has a name, by that column.

    Cells lose their backticks.
    """
    rows: dict[str, dict[str, str]] = {}
    head: list[str] = []
    for line in text.splitlines():
        if not line.startswith("|"):
            head = []
            continue
        cells = [cell.strip().replace("`", "") for cell in line.strip().strip("|").split("|")]
        if not head:
            head = cells
        elif head[0] == column and not set(line) <= set("|-: "):
            rows[cells[0]] = dict(zip(head, cells, strict=True))
    assert rows, f"there is no table with a first column {column!r}"
    return rows
