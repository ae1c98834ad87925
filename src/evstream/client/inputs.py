"""From what people type to files: paths, globs, folders, URLs, coffea filesets."""

from __future__ import annotations

import glob
import json
from pathlib import Path
from typing import Any

from evstream.domain.errors import NotFoundError, RequestError
from evstream.wire.messages import NewFile

SUFFIX = ".root"
_GLOB_CHARACTERS = frozenset("*?[")


def expand_inputs(inputs: list[str], dataset: str = "") -> list[NewFile]:
    """Return the files that inputs stand for, each once, in order of their paths.

    Parameters
    ----------
    inputs : list of str
        Files, globs, folders (searched for ``*.root``), URLs that fsspec opens, and
        coffea fileset JSON files.
    dataset : str
        Which dataset of a fileset to take, where it has several.

    Raises
    ------
    NotFoundError
        An input matches nothing.
    RequestError
        A fileset has a form that we do not know, or several datasets without a choice.
    """
    found: dict[str, NewFile] = {}
    for text in inputs:
        for file in _expand(text, dataset):
            if file.pfn in found and found[file.pfn] != file:
                raise RequestError(f"{file.pfn} is given twice with different entries")
            found[file.pfn] = file
    if not found:
        raise RequestError("no input is given", hint="give files, folders, globs or URLs")
    return [found[pfn] for pfn in sorted(found)]


def _expand(text: str, dataset: str) -> list[NewFile]:
    if "://" in text:
        if _GLOB_CHARACTERS & set(text.split("?", 1)[0]) and not text.startswith("http"):
            return [NewFile(pfn) for pfn in _remote_glob(text)]
        return [NewFile(text)]
    path = Path(text).expanduser()
    if path.is_dir():
        files = sorted(found for found in path.rglob(f"*{SUFFIX}") if found.is_file())
        if not files:
            raise NotFoundError(f"{text} holds no {SUFFIX} file", hint="give another folder")
        return [NewFile(_absolute(file)) for file in files]
    if path.suffix == ".json":
        return _fileset(path, dataset)
    if path.exists():
        return [NewFile(_absolute(path))]
    if _GLOB_CHARACTERS & set(text):
        # Path.glob takes no absolute patterns.
        matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207
        if matches:
            return [NewFile(_absolute(Path(match))) for match in matches]
        raise NotFoundError(f"nothing matches {text}", hint="check the pattern")
    raise NotFoundError(f"there is no file {text}", hint="check the path")


def _absolute(path: Path) -> str:
    # Not resolved: a link is the name that its owner chose.
    return str(Path.cwd() / path) if not path.is_absolute() else str(path)


def _remote_glob(text: str) -> list[str]:
    import fsspec  # Costs 0.1 s that most calls never need.

    filesystem, path = fsspec.core.url_to_fs(text)
    matches = sorted(filesystem.unstrip_protocol(match) for match in filesystem.glob(path))
    if not matches:
        raise NotFoundError(f"nothing matches {text}", hint="check the pattern")
    return matches


def _fileset(path: Path, dataset: str) -> list[NewFile]:
    """Read a coffea fileset: ``{dataset: {files: {pfn: {object_path, steps, …}}}}``."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or not content:
            raise ValueError("it holds no dataset")
        names = list(content)
        if dataset and dataset not in content:
            raise NotFoundError(f"{path} has no dataset {dataset!r}", hint=f"it has {names}")
        if not dataset and len(names) > 1:
            raise RequestError(
                f"{path} has several datasets",
                hint=f"choose one of {names} with --dataset",
            )
        files = content[dataset or names[0]]
        files = files.get("files", files)
        items = files.items() if isinstance(files, dict) else [(pfn, None) for pfn in files]
        return [_fileset_file(path, str(pfn), about) for pfn, about in items]
    except (OSError, ValueError, AttributeError, TypeError, KeyError) as error:
        raise RequestError(
            f"{path} is no coffea fileset: {error}", hint="see coffea.dataset_tools"
        ) from error


def _fileset_file(path: Path, pfn: str, about: Any) -> NewFile:
    if "://" not in pfn:
        pfn = _absolute(path.parent / pfn)
    if about is None or isinstance(about, str):
        return NewFile(pfn)
    tree = str(about["object_path"])
    steps = about.get("steps")
    entries = about.get("num_entries")
    return NewFile(
        pfn=pfn,
        uuid=str(about.get("uuid") or ""),
        entries={} if entries is None else {tree: int(entries)},
        asked={} if steps is None else {tree: [(int(a), int(b)) for a, b in steps]},
    )


def tree_of_inputs(inputs: list[str], dataset: str = "") -> str:
    """Return the tree that coffea filesets among the inputs name, if they agree."""
    filesets = [Path(text) for text in inputs if text.endswith(".json")]
    trees = {
        tree
        for path in filesets
        for file in _fileset(path, dataset)
        for tree in (*file.entries, *file.asked)
    }
    return trees.pop() if len(trees) == 1 else ""
