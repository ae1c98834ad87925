"""``evstream cut``: part of a ROOT file, as a file of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from evstream.cli.printing import print_json, size_text
from evstream.cli.service import Json
from evstream.domain.errors import ConfigError, RequestError


def cut(
    file: Annotated[Path, Parameter(help="A ROOT file.")],
    output: Annotated[Path, Parameter(help="File to write.")],
    *,
    tree: Annotated[str, Parameter(help="TTree, where there are several.")] = "",
    entries: Annotated[str, Parameter(help="START:STOP, half-open; either may be left out.")] = "",
    entry_list: Annotated[
        Path | None, Parameter(help="File with the entries to keep: numbers, ascending.")
    ] = None,
    branches: Annotated[
        tuple[str, ...],
        Parameter(consume_multiple=True, negative="", help="Globs of branches; default all."),
    ] = (),
    json: Json = False,
) -> None:
    """Cut entries and branches out of a ROOT file by copying its compressed baskets.

    Needs no service. All C++ types survive.

    For example:

        evstream cut nano.root muons.root --entries 1000:2000 --branches 'Muon_*'
    """
    from evstream import rootio
    from evstream.cli.get import parse_entries

    if entries and entry_list is not None:
        raise RequestError("--entries and --entry-list exclude each other", hint="give one of them")
    refuse_overwriting(output, file)
    chosen = None if entry_list is None else _read_entries(entry_list)
    start, stop = parse_entries(entries or ":")
    try:
        path = tree or _only_tree(file)
        count = rootio.cut(
            file,
            output,
            tree=path,
            entry_start=start,
            entry_stop=None if stop == -1 else stop,
            entries=chosen,
            branches=list(branches) or None,
        )
        size = output.stat().st_size
    except OSError as error:
        raise file_error(error) from error
    if json:
        print_json({"file": str(output), "tree": path, "entries": count, "size": size})
    else:
        print(f"{output}: {count} entries of {path}, {size_text(size)}")


def file_error(error: OSError) -> ConfigError:
    """Say which file could not be read or written, and why."""
    name = error.filename2 or error.filename or "a file"
    return ConfigError(f"{name}: {error.strerror or error}", hint="check the path and its rights")


def refuse_overwriting(output: Path, *inputs: Path) -> None:
    """Refuse an output that is no file to be written, or that is read from."""
    if output.exists() and not output.is_file():
        raise RequestError(f"{output} is no regular file", hint="name a file to write")
    if any(output.resolve() == one.resolve() for one in inputs):
        raise RequestError(f"{output} is an input too", hint="name another file to write")


def _only_tree(file: Path) -> str:
    from evstream import rootio

    with rootio.FileSource(file) as source:
        index = rootio.inspect(source)
    names = [*index.trees, *index.unreadable]
    if len(names) == 1:
        return names[0]
    if not names:
        index.tree("")
    raise RequestError(
        f"{file} has several trees: {', '.join(sorted(names))}", hint="name one with --tree"
    )


def _read_entries(path: Path) -> list[int]:
    try:
        words = path.read_text(encoding="utf-8").split()
        return [int(word) for word in words]
    except OSError as error:
        raise file_error(error) from error
    except ValueError as error:
        raise RequestError(
            f"{path} is no list of entries", hint="give whole numbers, one a line"
        ) from error
