"""From what people type to files: paths, globs, folders, URLs, coffea filesets."""

from __future__ import annotations

import glob
import json
import os
import shlex
from pathlib import Path
from typing import Any

import msgspec

from evstream.domain.checksums import HEX_DIGITS
from evstream.domain.errors import AccessError, NotFoundError, RequestError
from evstream.domain.names import without_secrets
from evstream.domain.payload import Payload, split_callable, split_payload
from evstream.domain.streams import MERGEABLE_SUFFIXES
from evstream.wire.messages import NewFile

SUFFIX = ".root"
_GLOB_CHARACTERS = frozenset("*?[")


def expand_inputs(
    inputs: list[str], dataset: str = "", besides: Path | None = None
) -> list[NewFile]:
    """Return the files that inputs stand for, each once, in order of their paths.

    Parameters
    ----------
    inputs : list of str
        Files, globs, folders, URLs that fsspec opens, and coffea fileset JSON files.
        Folders are searched for ``*.root``, and for other formats if they hold none.
    dataset : str
        Which dataset of a fileset to take, where it has several.
    besides : Path, optional
        A folder that is left out where folders are searched: where the results go.

    Raises
    ------
    NotFoundError
        An input matches nothing.
    RequestError
        A fileset has a form that we do not know, or several datasets without a choice.
    """
    if dataset and not any(map(_is_fileset, inputs)):
        raise RequestError(
            f"--dataset {dataset} chooses from a coffea fileset, and none is given",
            hint="leave it out, or give the fileset's JSON file",
        )
    found: dict[str, NewFile] = {}
    for text in inputs:
        for file in _expand(text, dataset, besides):
            if file.pfn in found and found[file.pfn] != file:
                raise RequestError(
                    f"{without_secrets(file.pfn)} is given twice with different entries"
                )
            found[file.pfn] = file
    if not found:
        raise RequestError("no input is given", hint="give files, folders, globs or URLs")
    return [found[pfn] for pfn in sorted(found)]


def _expand(text: str, dataset: str, besides: Path | None) -> list[NewFile]:
    if "://" in text:
        if _GLOB_CHARACTERS & set(text.split("?", 1)[0]) and not text.startswith("http"):
            return [NewFile(pfn) for pfn in _remote_glob(text)]
        return [NewFile(text)]
    path = Path(text).expanduser()
    if path.is_dir():
        files = _search(path, besides)
        if not files:
            left_out = besides is not None and path.resolve().is_relative_to(besides.resolve())
            hint = "it is the output folder: give another --output" if left_out else ""
            raise NotFoundError(
                f"{text} holds no file of events", hint=hint or "give another folder"
            )
        return [NewFile(absolute_path(file)) for file in files]
    if _is_fileset(text):
        return _fileset(path, dataset)
    if path.exists():
        return [NewFile(absolute_path(path))]
    if _GLOB_CHARACTERS & set(text):
        # Path.glob takes no absolute patterns.
        matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207
        if matches:
            return [NewFile(absolute_path(Path(match))) for match in matches]
        raise NotFoundError(f"nothing matches {text}", hint="check the pattern")
    raise NotFoundError(f"there is no file {text}", hint="check the path")


def _is_fileset(text: str) -> bool:
    return text.endswith(".json") and "://" not in text


def _search(top: Path, besides: Path | None) -> list[Path]:
    """Return the files of events below a folder, hidden ones and those besides left out.

    Raises
    ------
    AccessError
        A folder on the way may not be read: its files would be missed in silence.
    """
    found: list[Path] = []
    for folder, inner, names in os.walk(top, onerror=_refuse_folder):
        if besides is not None and Path(folder).resolve().is_relative_to(besides.resolve()):
            inner.clear()
            continue
        inner[:] = [name for name in inner if not name.startswith(".")]
        paths = [Path(folder, name) for name in names if not name.startswith(".")]
        events = [path for path in paths if path.name.endswith(MERGEABLE_SUFFIXES)]
        found += [path for path in events if path.is_file()]
    return sorted([path for path in found if path.suffix == SUFFIX] or found)


def _refuse_folder(error: OSError) -> None:
    raise AccessError(
        f"folder {error.filename} may not be read: {error.strerror}",
        hint="ask its owner, or name the files one by one",
    ) from error


def absolute_path(path: Path) -> str:
    """Return a path as it is found from anywhere.

    Not resolved: a link is the name that its owner chose.
    """
    text = os.path.abspath(path)  # noqa: PTH100 - the way that leaves links alone
    if ".." in path.parts and path.exists() and not path.samefile(text):
        # After a link, ".." is not the folder that the link is in.
        return str(Path.cwd() / path)
    return text


def _remote_glob(text: str) -> list[str]:
    import fsspec  # Costs 0.1 s that most calls never need.

    filesystem, path = fsspec.core.url_to_fs(text)
    matches = sorted(filesystem.unstrip_protocol(match) for match in filesystem.glob(path))
    if not matches:
        raise NotFoundError(f"nothing matches {without_secrets(text)}", hint="check the pattern")
    return matches


def _fileset(path: Path, dataset: str) -> list[NewFile]:
    return [_fileset_file(path, pfn, about) for pfn, about in _read_fileset(path, dataset)]


def _read_fileset(path: Path, dataset: str) -> list[tuple[str, dict[str, Any]]]:
    """Read a coffea fileset: PFNs, and what is said of each.

    A dataset is ``{files: {pfn: {object_path, steps, …}}}``, or any of the shorter forms:
    without ``files``, a tree's name or nothing for a file, a list of PFNs.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or not content:
            raise ValueError("it holds no dataset")
        names = list(content)
        if dataset and dataset not in content:
            raise NotFoundError(
                f"{path} has no dataset {dataset!r}", hint=f"it has {', '.join(names)}"
            )
        if not dataset and len(names) > 1:
            raise RequestError(
                f"{path} has several datasets",
                hint=f"choose one of {', '.join(names)} with --dataset",
            )
        files = content[dataset or names[0]]
        if isinstance(files, dict):
            files = files.get("files", files)
        about = dict.fromkeys(files) if isinstance(files, list) else dict(files)
        if not about:
            raise ValueError(f"dataset {dataset or names[0]!r} lists no files")
        return [(str(pfn), _about_file(said)) for pfn, said in about.items()]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RequestError(
            f"{path} is no coffea fileset: {error}", hint="see coffea.dataset_tools"
        ) from error


def _about_file(said: Any) -> dict[str, Any]:
    if said is None or isinstance(said, str):
        return {"object_path": said}
    about = dict(said)
    if "object_path" not in about:
        raise ValueError("a file has no object_path, the name of its tree")
    about["object_path"] = str(about["object_path"])
    steps, entries = about.get("steps"), about.get("num_entries")
    about["steps"] = None if steps is None else [(_entry(a), _entry(b)) for a, b in steps]
    about["num_entries"] = None if entries is None else _entry(entries)
    size = about.get("size")
    about["size"] = None if size is None else _entry(size)
    return about


def _entry(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is no number of entries or bytes")
    return value


def _fileset_file(path: Path, pfn: str, about: dict[str, Any]) -> NewFile:
    if "://" not in pfn:
        pfn = absolute_path(path.parent / pfn)
    tree, steps, entries = about["object_path"], about.get("steps"), about.get("num_entries")
    return NewFile(
        pfn=pfn,
        uuid=str(about.get("uuid") or ""),
        size=about.get("size"),
        digest=str(about.get("digest") or ""),
        checksums={name: str(about[name]) for name in HEX_DIGITS if about.get(name)},
        entries={} if entries is None else {tree: entries},
        asked={} if steps is None else {tree: steps},
    )


def tree_of_inputs(inputs: list[str], dataset: str = "") -> str:
    """Return the tree that coffea filesets among the inputs name, if they agree."""
    trees = {
        about["object_path"]
        for text in inputs
        if _is_fileset(text)
        for _, about in _read_fileset(Path(text).expanduser(), dataset)
    }
    return trees.pop() or "" if len(trees) == 1 else ""


def absolute_payload(payload: Payload, folder: Path = Path()) -> Payload:
    """Return a payload whose words that name files do so from anywhere.

    It runs in a folder of its own, where a relative path means nothing.

    Parameters
    ----------
    folder : Path
        Where the words are looked for; by default here.

    Raises
    ------
    RequestError
        It cannot be run as its kind is run.
    """
    if payload.kind == "callable":
        place, function = split_callable(payload.command)
        found = absolute_path(folder / place) if (folder / place).is_file() else place
        return msgspec.structs.replace(payload, command=f"{found}:{function}")
    words = split_payload(payload)
    placed = [
        # A bare program is looked for on the PATH, whatever lies here.
        absolute_path(folder / word)
        if "{" not in word and (place or "/" in word) and (folder / word).is_file()
        else word
        for place, word in enumerate(words)
    ]
    if placed == words:
        return payload
    return msgspec.structs.replace(payload, command=shlex.join(placed))
