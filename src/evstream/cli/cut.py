"""``evstream cut``: part of a file of events, as a file of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from evstream.cli.printing import print_json, size_text
from evstream.cli.service import Json
from evstream.domain.errors import ConfigError, RequestError

if TYPE_CHECKING:
    from evstream.ports import FileIndex

CHUNK_BYTES = 8 << 20


def cut(
    file: Annotated[Path, Parameter(help="A ROOT, Parquet, HDF5, LHE or HepMC file.")],
    output: Annotated[Path, Parameter(help="File to write.")],
    *,
    tree: Annotated[str, Parameter(help="Tree, where there are several.")] = "",
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
    """Cut entries and branches out of a file, into one of the same format.

    Needs no service. Of ROOT files, compressed baskets are copied, and all C++ types
    survive.

    For example:

        evstream cut nano.root muons.root --entries 1000:2000 --branches 'Muon_*'
    """
    from evstream.cli.get import parse_entries

    if entries and entry_list is not None:
        raise RequestError("--entries and --entry-list exclude each other", hint="give one of them")
    refuse_overwriting(output, file)
    chosen = None if entry_list is None else _read_entries(entry_list)
    start, stop = parse_entries(entries or ":")
    try:
        path, count = _cut(file, output, tree, (start, stop), chosen, branches)
        size = output.stat().st_size
    except OSError as error:
        raise file_error(error) from error
    if json:
        print_json({"file": str(output), "tree": path, "entries": count, "size": size})
    else:
        print(f"{output}: {count} entries of {path}, {size_text(size)}")


def _cut(
    file: Path,
    output: Path,
    tree: str,
    interval: tuple[int, int],
    entries: list[int] | None,
    globs: tuple[str, ...],
) -> tuple[str, int]:
    """Cut one file into another; return the tree that was cut and the number of entries."""
    from evstream.assembly import make_formats
    from evstream.rootio import FileSource
    from evstream.rootio.spool import spooled

    with FileSource(file) as source:
        file_format, index = make_formats().inspect(source, str(file))
        path = tree or _only_tree(file, index)
        branches = file_format.select(index, path, globs) if globs else None
        start, stop = interval
        if stop == -1:
            stop = index.trees[path].entries if path in index.trees else 0
        planned = (
            file_format.plan_cut(
                index, tree=path, entry_start=start, entry_stop=stop, branches=branches
            )
            if entries is None
            else file_format.plan_select(index, tree=path, entries=entries, branches=branches)
        )
        planned.prepare(source)
        with spooled(output) as out:
            for offset in range(0, planned.size, CHUNK_BYTES):
                out.write(planned.read(offset, CHUNK_BYTES, source))
    return path, planned.entries


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


def _only_tree(file: Path, index: FileIndex) -> str:
    names = [*index.trees, *index.unreadable]
    if len(names) == 1:
        return names[0]
    if not names:
        from evstream.rootio import NoSuchTreeError

        raise NoSuchTreeError(f"{file} has no tree at all", hint="give a file with events")
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
