"""``evstream get``: a product to a file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from evstream.cli.printing import print_json, size_text
from evstream.cli.service import DEFAULT_DOOR, Door
from evstream.client import Service
from evstream.domain.errors import ConfigError, RequestError
from evstream.wire.messages import NewSlice


def get(
    dataset: Annotated[str, Parameter(help="A registered dataset.")],
    output: Annotated[Path, Parameter(help="File to write.")],
    *,
    lfn: Annotated[str, Parameter(help="File of the dataset, where it has several.")] = "",
    tree: Annotated[str, Parameter(help="Tree, where there are several.")] = "",
    entries: Annotated[str, Parameter(help="START:STOP, half-open; either may be left out.")] = ":",
    branches: Annotated[
        tuple[str, ...],
        Parameter(consume_multiple=True, negative="", help="Globs of branches; default all."),
    ] = (),
    door: Door = DEFAULT_DOOR,
) -> None:
    """Fetch exactly some entries and branches of a registered file.

    For example:

        evstream get user:dimuons cut.root --entries 100:200 --branches 'Muon_*'
    """
    start, stop = parse_entries(entries)
    request = NewSlice(
        dataset=dataset,
        lfn=lfn,
        tree=tree,
        entry_start=start,
        entry_stop=stop,
        branches=list(branches),
    )
    if output.exists() and not output.is_file():
        raise RequestError(f"{output} is no regular file", hint="name a file to write")
    # A link is followed, not replaced.
    target = output.resolve()
    partial = target.with_name(f".{target.name}.partial")

    async def work(service: Service) -> tuple[str, int]:
        plan = await service.describe_slice(request)
        return plan.key, await service.fetch_product(plan, partial)

    try:
        key, size = door.ask(work)
        partial.replace(target)
    except OSError as error:
        raise ConfigError(f"cannot write {output}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)
    if door.json:
        print_json({"key": key, "file": str(output), "size": size})
    else:
        print(f"{output}: {size_text(size)}, product {key}")


def parse_entries(text: str) -> tuple[int, int]:
    """Read ``START:STOP``; a missing stop is -1, the end."""
    # No file holds as many entries as 18 digits count.
    found = re.fullmatch(r"([0-9]{0,18}):([0-9]{0,18})", text)
    if found is None:
        raise RequestError(
            f"{text!r} is no range of entries", hint="give START:STOP, as in 100:200"
        )
    return int(found[1] or 0), int(found[2] or -1)
