"""Checks the pages: links lead somewhere, anchors exist, and Python blocks are Python.

Run as ``python -m tools.check_docs [FOLDER]``; exits 1 and prints each fault with its place.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.token import Token

REPOSITORY = Path(__file__).resolve().parent.parent


def pages_of(repository: Path) -> list[Path]:
    """List the Markdown pages that git knows or would take."""
    listed = subprocess.run(
        ["git", "-C", str(repository), "ls-files", "-co", "--exclude-standard", "-z", "*.md"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    paths = (repository / name for name in listed.split("\0") if name)
    return sorted(path for path in paths if path.exists())


def anchor_of(title: str) -> str:
    """Give the anchor that a heading gets, as the usual forges make it."""
    kept = re.sub(r"[^\w\- ]", "", title.strip().lower())
    return kept.replace(" ", "-")


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of a page's headings; a repeated heading's are numbered."""
    seen: dict[str, int] = {}
    anchors = set()
    tokens = _parse(page)
    for token, content in pairwise(tokens):
        if token.type != "heading_open":
            continue
        anchor = anchor_of(plain_text(content))
        count = seen.get(anchor, 0)
        seen[anchor] = count + 1
        anchors.add(f"{anchor}-{count}" if count else anchor)
    return anchors


def faults_of(page: Path, repository: Path) -> Iterator[str]:
    """Yield what is wrong with a page, each with its file and line."""
    place = page.relative_to(repository)
    for token in _parse(page):
        line = (token.map or [0])[0] + 1
        if token.type == "fence" and token.info.split()[:1] == ["python"]:
            fault = _python_fault(token.content)
            if fault:
                yield f"{place}:{line}: the Python block does not parse: {fault}"
        for child in token.children or []:
            target = child.attrGet("href") or child.attrGet("src")
            if target and (fault := _link_fault(str(target), page, repository)):
                yield f"{place}:{line}: {fault}"


def _link_fault(target: str, page: Path, repository: Path) -> str | None:
    if re.match(r"[a-z][a-z0-9+.-]*:", target):
        return None
    name, _, anchor = unquote(target).partition("#")
    if name.startswith("/"):
        return f"{target} is absolute; give it from the page's own folder"
    path = (page.parent / name).resolve() if name else page
    if not path.is_relative_to(repository):
        return f"{target} leads out of the repository"
    if not path.exists():
        return f"{target} does not exist"
    if anchor and path.suffix == ".md" and anchor not in anchors_of(path):
        return f"{target} names no heading of {path.name}"
    return None


def _python_fault(source: str) -> str | None:
    # Sessions of the interpreter show both input and output; only input is Python.
    if source.lstrip().startswith(">>>"):
        lines = [line[4:] for line in source.splitlines() if line.startswith((">>> ", "... "))]
        source = "\n".join(lines)
    try:
        # Examples may await at top level, as notebooks do.
        compile(textwrap.dedent(source), "block", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except SyntaxError as error:
        return f"{error.msg} in its line {error.lineno}"
    return None


def plain_text(inline: Token) -> str:
    """Return what a reader sees of a heading, without its markup."""
    children = inline.children or []
    return "".join(child.content for child in children if child.type in ("text", "code_inline"))


def _parse(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))


def main(words: list[str]) -> int:
    """Check every page; print what is wrong."""
    repository = Path(words[0]).resolve() if words else REPOSITORY
    pages = pages_of(repository)
    faults = [fault for page in pages for fault in faults_of(page, repository)]
    for fault in faults:
        print(fault)
    print(f"{len(pages)} pages, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
