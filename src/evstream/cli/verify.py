"""``evstream verify``: prove a receipt, offline."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from evstream.cli.printing import print_json, print_pairs
from evstream.cli.service import Json


def verify(
    receipt: Annotated[Path, Parameter(help="A receipt.json.")],
    *,
    outputs: Annotated[Path | None, Parameter(help="Folder of the outputs.")] = None,
    key: Annotated[
        str, Parameter(help="Public key, hex, that must have signed it (evstream doctor tells).")
    ] = "",
    json: Json = False,
) -> None:
    """Verify a receipt on three levels: the ledger, the outputs, the events.

    Needs no service. Exits with 1 if a level fails. A level that has nothing to
    look at (no event numbers in the outputs, say) is named, and does not fail.

    For example:

        evstream verify results/receipt.json
    """
    from evstream.client.verification import verify_receipt

    levels = verify_receipt(receipt, outputs, key)
    if json:
        print_json(levels)
    else:
        words = {True: "holds", False: "FAILS", None: "unchecked"}
        print_pairs([(f"{level.name}: {words[level.holds]}", level.finding) for level in levels])
    if any(level.holds is False for level in levels):
        sys.exit(1)
