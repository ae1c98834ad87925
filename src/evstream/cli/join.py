"""``evstream join``: ROOT files into one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from evstream.cli.printing import print_json, size_text
from evstream.cli.service import Json


def join(
    output: Annotated[Path, Parameter(help="File to write.")],
    *inputs: Annotated[Path, Parameter(help="ROOT files, in the order of their entries.")],
    json: Json = False,
) -> None:
    """Join ROOT files into one, in the given order, by copying compressed baskets.

    Trees are put behind each other, histograms added; of other objects the first
    file's are kept. Needs no service.

    For example:

        evstream join all.root part1.root part2.root
    """
    from evstream import rootio
    from evstream.cli.cut import file_error, refuse_overwriting
    from evstream.domain.errors import RequestError

    if not inputs:
        raise RequestError("there is nothing to join", hint="name at least one input")
    refuse_overwriting(output, *inputs)
    try:
        result = rootio.join(inputs, output)
    except OSError as error:
        raise file_error(error) from error
    if json:
        print_json(
            {
                "file": str(output),
                "entries": dict(result.entries),
                "objects": {rule: list(paths) for rule, paths in result.objects.items()},
                "size": result.size,
            }
        )
        return
    trees = ", ".join(f"{count} entries of {path}" for path, count in result.entries.items())
    print(f"{output}: {trees or 'no tree'}, {size_text(result.size)}")
    for rule, paths in result.objects.items():
        print(f"  {rule}: {', '.join(paths)}")
