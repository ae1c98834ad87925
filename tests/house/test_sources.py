"""The sources keep the house's rules: sizes, imports, and nothing of one machine."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.house.project import REPOSITORY, distribution_names, normal

FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 60
SOURCES = sorted((REPOSITORY / "src").rglob("*.py"))
HOUSE = [*SOURCES, *(p for d in ("bench", "demo", "tools") for p in (REPOSITORY / d).glob("*.py"))]

# Names of import packages that differ from those of their distributions.
_IMPORTED_AS = {"ruamel": "ruamel.yaml", "ROOT": "root"}
# Kinds of host, so that this file names none: an index of packages, a mirror of Debian's.
_INDEX_HOST = re.compile(
    r"\b(?:files\.)?(?:pythonhosted|pypi)\.org/|\bdeb\.debian\.org|\bregistry\.npmjs\.org"
    r"|--(?:extra-)?index-url|--trusted-host|--find-links"
)


def tracked_texts() -> Iterator[tuple[Path, str]]:
    """Yield each text file that is in the repository or would be."""
    listed = subprocess.run(
        ["git", "-C", str(REPOSITORY), "ls-files", "-co", "--exclude-standard", "-z"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        path = REPOSITORY / name
        if not path.is_file() or path == Path(__file__):
            continue
        try:
            yield path, path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def relative(path: Path) -> str:
    """Return a path as the repository sees it."""
    return str(path.relative_to(REPOSITORY))


def test_a_module_holds_one_idea() -> None:
    lines = {relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in HOUSE}
    assert not {name: n for name, n in lines.items() if n > FILE_LINES_MAX}, "look for two ideas"


def test_a_function_is_seen_whole() -> None:
    long = {
        f"{relative(path)}:{node.lineno} {node.name}": lines
        for path in HOUSE
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES_MAX
    }
    assert not long


def test_what_is_imported_is_a_dependency() -> None:
    declared = distribution_names("dependencies")
    extras = {
        "engines": declared | distribution_names("dask"),
        "formats": declared | distribution_names("hdf5", "parquet"),
        "catalogue": declared | distribution_names("postgresql", "parquet"),
        "product_store": declared | distribution_names("s3"),
        "storage": declared | distribution_names("s3"),
    }
    missing = {}
    for path in SOURCES:
        known = extras.get(path.parent.name, declared)
        for name in imported_packages(path):
            distribution = normal(_IMPORTED_AS.get(name, name))
            if distribution not in known:
                missing.setdefault(distribution, relative(path))
    # The contract suites are for those who test an adapter of their own; they have pytest.
    missing = {n: p for n, p in missing.items() if not p.startswith("src/evstream/testing/")}
    assert not missing


def imported_packages(path: Path) -> set[str]:
    """Name the foreign packages that a module imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return {n for n in names if n not in sys.stdlib_module_names and n != "evstream"}


def test_no_file_names_where_packages_come_from() -> None:
    found = [
        f"{relative(path)}: {match[0]}"
        for path, text in tracked_texts()
        if (match := _INDEX_HOST.search(text))
    ]
    assert not found, "which index serves packages is the machine's own business"


def test_no_file_names_a_folder_of_this_machine() -> None:
    here = [str(REPOSITORY), f"{Path.home()}/"]
    found = [
        f"{relative(path)}: {folder}"
        for path, text in tracked_texts()
        for folder in here
        if folder in text
    ]
    assert not found
