"""``evstream cut``: part of a file of events, as a file of its own."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

from cyclopts import Parameter

from evstream.cli.printing import print_json, size_text
from evstream.cli.service import Json
from evstream.domain.errors import ConfigError, RequestError

if TYPE_CHECKING:
    from evstream.ports import FileIndex
    from evstream.ports.format import Cut, Format

CHUNK_BYTES = 8 << 20
ENTRY_MAX = (1 << 62) - 1
Keep: TypeAlias = Annotated[
    tuple[str, ...],
    Parameter(
        consume_multiple=True,
        negative="",
        help="PATTERN=RULE: what becomes of a ROOT file's other trees and objects; "
        "rules are add, concatenate, first, all, events, none.",
    ),
]


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
    keep: Keep = (),
    json: Json = False,
) -> None:
    """Cut entries and branches out of a file, into one of the same format.

    Needs no service. Of ROOT files, compressed baskets are copied, and all C++ types
    survive; metadata trees and other objects come along by rule, as `evstream inspect`
    shows.

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
        path, planned = _cut(file, output, tree, (start, stop), chosen, branches, keep)
    except OSError as error:
        raise file_error(error, output) from error
    _print(path, planned, output, json=json)


def _cut(
    file: Path,
    output: Path,
    tree: str,
    interval: tuple[int, int],
    entries: list[int] | None,
    globs: tuple[str, ...],
    keep: tuple[str, ...],
) -> tuple[str, Cut]:
    """Cut one file into another; return the tree that was cut and the plan that was used."""
    from evstream.assembly import make_formats
    from evstream.rootio import FileSource
    from evstream.rootio.spool import spooled

    with FileSource(file) as source:
        file_format, index = make_formats().inspect(source, str(file))
        file_format = with_rules(file_format, keep).for_output(output.name)
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
    return path, planned


def _print(path: str, planned: Cut, output: Path, *, json: bool) -> None:
    from evstream.rootio import listed

    if json:
        print_json(
            {
                "file": str(output),
                "tree": path,
                "entries": planned.entries,
                "size": planned.size,
                "beside": list(planned.beside),
                "left_behind": list(planned.left_behind),
            }
        )
        return
    print(f"{output}: {planned.entries} entries of {path}, {size_text(planned.size)}")
    if planned.beside:
        print(f"  beside them: {listed(planned.beside)}")
    for note in planned.left_behind:
        print(f"  left behind: {note}")


def with_rules(file_format: Format, keep: tuple[str, ...]) -> Format:
    """Return the format with rules as people write them, PATTERN=RULE, if there are any."""
    from evstream.assembly import make_root_format

    if not keep:
        return file_format
    if file_format.name != "root":
        raise RequestError("--keep is for ROOT files", hint="leave it out")
    found = {}
    for word in keep:
        glob, equals, rule = word.rpartition("=")
        if not equals or not glob:
            raise RequestError(f"{word!r} is no rule", hint="write PATTERN=RULE, as 'h_*=add'")
        found[glob] = rule
    return make_root_format(found)


def file_error(error: OSError, output: Path | None = None) -> ConfigError:
    """Say which file could not be read or written, and why.

    Parameters
    ----------
    output : Path, optional
        What was being written: errors while a file is open do not say which one.
    """
    name = error.filename2 or error.filename or output
    if output is not None and str(name).endswith(".part"):
        name = output  # Not the hidden file that becomes it.
    hint = "check the path and its rights"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        hint = "make room, or write to another disk"
    reason = error.strerror or str(error)
    if re.match(r"[a-z]+:/", str(name)):
        hint = "files must be here; 'evstream get' fetches from those that a service knows"
    if output is not None and not output.absolute().parent.is_dir():
        reason, hint = f"there is no folder {output.absolute().parent}", "make it first"
    return ConfigError(f"{name}: {reason}" if name else reason, hint=hint)


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


def _no_list(path: Path) -> RequestError:
    return RequestError(f"{path} is no list of entries", hint="give whole numbers, one a line")


def _read_entries(path: Path) -> list[int]:
    try:
        words = path.read_text(encoding="utf-8").split()
    except OSError as error:
        raise file_error(error) from error
    except UnicodeDecodeError as error:
        raise _no_list(path) from error
    # What else Python takes for numbers, such as 1_0, is rather a slip.
    if not all(re.fullmatch("[+-]?[0-9]{1,300}", word) for word in words):
        raise _no_list(path)
    numbers = [int(word) for word in words]
    if not numbers:
        raise RequestError(f"{path} names no entry", hint="give whole numbers, one a line")
    if not 0 <= min(numbers) <= max(numbers) <= ENTRY_MAX:
        raise RequestError(
            f"{path} has numbers that no entry has", hint=f"give some from 0 to {ENTRY_MAX}"
        )
    return numbers
