"""``evstream join``: files of events into one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from evstream.cli.cut import Keep
from evstream.cli.printing import print_json, size_text
from evstream.cli.service import Json


def join(
    output: Annotated[Path, Parameter(help="File to write.")],
    *inputs: Annotated[Path, Parameter(help="Files of one format, in the order of their entries.")],
    keep: Keep = (),
    json: Json = False,
) -> None:
    """Join files of one format into one, in the given order. Needs no service.

    Of ROOT files, compressed baskets are copied; trees are put behind each other,
    histograms added, equal metadata kept once, by the rules that `evstream inspect` shows.

    For example:

        evstream join all.root part1.root part2.root
    """
    from evstream import rootio
    from evstream.assembly import make_formats
    from evstream.cli.cut import file_error, refuse_overwriting, with_rules
    from evstream.domain.errors import RequestError

    if not inputs:
        raise RequestError("there is nothing to join", hint="name at least one input")
    refuse_overwriting(output, *inputs)
    try:
        with rootio.FileSource(inputs[0]) as first:
            file_format = make_formats().recognise(first, str(inputs[0]))
        result = with_rules(file_format, keep).join(inputs, output)
    except OSError as error:
        raise file_error(error, output) from error
    if json:
        print_json(
            {
                "file": str(output),
                "entries": dict(result.entries),
                "objects": {rule: list(paths) for rule, paths in result.objects.items()},
                "size": result.size,
                "notes": list(result.notes),
            }
        )
        return
    trees = ", ".join(f"{count} entries of {path}" for path, count in result.entries.items())
    print(f"{output}: {trees or 'no tree'}, {size_text(result.size)}")
    for rule, paths in result.objects.items():
        print(f"  {rule}: {rootio.listed(paths)}")
    for note in result.notes:
        print(f"  note: {note}")
