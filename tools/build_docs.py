"""Builds the pages as HTML into build/docs; the folder can be opened or served as it is.

Run as ``python -m tools.build_docs [TARGET]``. Links between pages are turned to their HTML.
"""

from __future__ import annotations

import html
import re
import shutil
import sys
from itertools import pairwise
from os.path import relpath
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tools.check_docs import REPOSITORY, anchor_of, plain_text

# Front pages first, then the four kinds of page, as a reader needs them.
FRONT = ("README.md", "ARCHITECTURE.md", "bench/README.md", "changes/README.md")
SECTIONS = ("tutorial", "how-to", "reference", "explanation", "adr")
PICTURES = (".svg", ".png")

TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · evstream</title>
<style>{style}</style>
</head>
<body>
<nav aria-label="Pages">{navigation}</nav>
<main>{body}</main>
</body>
</html>
"""

STYLE = """
:root { color-scheme: light dark; --line: #8885; --tint: #8881; }
body { margin: 0; display: flex; flex-wrap: wrap; font: 16px/1.55 system-ui, sans-serif; }
nav { flex: 1 1 14rem; padding: 1.5rem; border-right: 1px solid var(--line); }
nav h2 { font-size: .9rem; margin: 1.2rem 0 .3rem; }
nav ul { list-style: none; margin: 0; padding: 0; }
nav [aria-current] { font-weight: 600; }
main { flex: 4 1 30rem; max-width: 52rem; padding: 1.5rem 2rem; overflow-wrap: break-word; }
pre { background: var(--tint); padding: .8rem 1rem; overflow-x: auto; border-radius: 4px; }
code { font: .9em ui-monospace, monospace; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { border: 1px solid var(--line); padding: .3rem .6rem; }
th, td { text-align: left; vertical-align: top; }
img { max-width: 100%; }
"""


def sections_of(repository: Path) -> dict[str, list[Path]]:
    """Group the pages: what stands in front, then one group a folder of docs."""
    groups = {"evstream": [repository / name for name in FRONT if (repository / name).exists()]}
    for section in SECTIONS:
        pages = sorted((repository / "docs" / section).rglob("*.md"))
        if pages:
            groups[section.capitalize()] = pages
    return groups


def target_of(page: Path, repository: Path, target: Path) -> Path:
    """Return where a page's HTML goes; the README is the first page."""
    place = page.relative_to(repository)
    if place == Path("README.md"):
        return target / "index.html"
    return target / place.with_suffix(".html")


def title_of(page: Path) -> str:
    """Return a page's first heading, or its name."""
    found = re.search(r"^# (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return re.sub(r"[`*_]", "", found[1]) if found else page.stem


def build(repository: Path, target: Path) -> list[Path]:
    """Write every page and the pictures; return the pages written."""
    groups = sections_of(repository)
    published = {page: target_of(page, repository, target) for g in groups.values() for page in g}
    shutil.rmtree(target, ignore_errors=True)
    for page, path in published.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        text = TEMPLATE.format(
            title=html.escape(title_of(page)),
            style=STYLE,
            navigation=_navigation(groups, published, page),
            body=_body(page, published, repository, target),
        )
        path.write_text(text, encoding="utf-8")
    return list(published.values())


def _navigation(groups: dict[str, list[Path]], published: dict[Path, Path], here: Path) -> str:
    parts = []
    for name, pages in groups.items():
        parts.append(f"<h2>{html.escape(name)}</h2><ul>")
        for page in pages:
            link = relpath(published[page], published[here].parent)
            current = ' aria-current="page"' if page == here else ""
            parts.append(f'<li><a href="{link}"{current}>{html.escape(title_of(page))}</a></li>')
        parts.append("</ul>")
    return "".join(parts)


def _body(page: Path, published: dict[Path, Path], repository: Path, target: Path) -> str:
    reader = MarkdownIt("commonmark").enable("table")
    tokens = reader.parse(page.read_text(encoding="utf-8"))
    for token, content in pairwise(tokens):
        if token.type == "heading_open":
            token.attrSet("id", anchor_of(plain_text(content)))
    for token in tokens:
        for child in token.children or []:
            _turn_link(child, page, published, repository, target)
    return str(reader.renderer.render(tokens, reader.options, {}))


def _turn_link(
    link: Token, page: Path, published: dict[Path, Path], repository: Path, target: Path
) -> None:
    """Lead a link to the page's HTML; pictures are copied beside it, sources lose their link."""
    name = "href" if link.type == "link_open" else "src"
    value = link.attrGet(name)
    if not value or re.match(r"[a-z][a-z0-9+.-]*:|#", str(value)):
        return
    file_name, hash_mark, anchor = str(value).partition("#")
    source = (page.parent / file_name).resolve()
    here = published[page].parent
    if source in published:
        link.attrSet(name, relpath(published[source], here) + hash_mark + anchor)
    elif source.suffix in PICTURES and source.exists():
        copy = target / source.relative_to(repository)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)
        link.attrSet(name, relpath(copy, here))
    else:
        # Code is not published; its path in the text is enough to find it.
        link.attrs.pop(name, None)


def main(words: list[str]) -> int:
    """Build all pages."""
    target = Path(words[0]).resolve() if words else REPOSITORY / "build" / "docs"
    pages = build(REPOSITORY, target)
    print(f"{len(pages)} pages; open {relpath(target / 'index.html')}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
