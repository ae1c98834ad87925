"""``evstream verify``: prove a receipt, offline."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from evstream.cli.printing import print_json, print_pairs
from evstream.cli.service import Json

Numbers = Annotated[
    tuple[str, ...],
    Parameter(
        consume_multiple=True,
        negative="",
        help="Branches that number events; default: those that usually do.",
    ),
]


def verify(
    receipt: Annotated[Path, Parameter(help="A receipt.json.")],
    *,
    outputs: Annotated[Path | None, Parameter(help="Folder of the outputs.")] = None,
    sources: Annotated[
        Path | None, Parameter(help="Folder of the source files, if they have moved.")
    ] = None,
    parents: Annotated[
        tuple[Path, ...],
        Parameter(
            consume_multiple=True,
            negative="",
            help="Receipts of the tasks whose outputs it took, and of theirs.",
        ),
    ] = (),
    key: Annotated[
        str, Parameter(help="Public key, hex, that must have signed it (evstream doctor tells).")
    ] = "",
    numbers: Numbers = (),
    complete: Annotated[
        bool,
        Parameter(
            negative="", help="Fail unless every event asked for was committed, by its parents too."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Verify a receipt on three levels: the ledger, the outputs, the events.

    Needs no service. Exits with 1 if a level fails. A level that has nothing to
    look at (no event numbers in the outputs, say) is named, and does not fail. If
    not every event was committed, by the tasks whose outputs it took too, the last
    line says so; with --complete that fails too.

    For example:

        evstream verify results/receipt.json --complete
        evstream verify fits/receipt.json --parents skim/receipt.json
    """
    from evstream.assembly import verify_receipt

    *levels, whole = verify_receipt(receipt, outputs, key, sources, numbers, parents)
    if json:
        print_json([*levels, whole])
    else:
        words = {True: "holds", False: "FAILS", None: "unchecked"}
        print_pairs([(f"{level.name}: {words[level.holds]}", level.finding) for level in levels])
        if whole.holds is False:
            print(f"NOT COMPLETE: {whole.finding}")
        elif whole.holds is None and levels[0].holds:
            print(f"NOT KNOWN TO BE COMPLETE: {whole.finding}")
    if any(level.holds is False for level in levels) or (complete and whole.holds is not True):
        sys.exit(1)
