"""Verification of receipts, offline: the ledger, the outputs, the events."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evstream.client.results import digest_of
from evstream.domain.errors import EvstreamError, VerificationError
from evstream.domain.receipt import LEVELS, check_ledger
from evstream.wire.receipt_signature import check_signature

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EVENT_NUMBERS = (
    ("run", "luminosityBlock", "event"),
    ("run", "event"),
    ("Run", "Event"),
    ("runNumber", "eventNumber"),
    ("RunNumber", "EventNumber"),
    ("run_number", "event_number"),
)
"""Branches that number events, by convention of CMS, ATLAS and others; first match."""


@dataclass(frozen=True, slots=True)
class Level:
    """What one level of verification found.

    Attributes
    ----------
    holds : bool or None
        None where it could not be checked; ``finding`` says why.
    """

    name: str
    holds: bool | None
    finding: str


def verify_receipt(path: Path, outputs: Path | None = None, trusted_key: str = "") -> list[Level]:
    """Verify a receipt on its three levels.

    Parameters
    ----------
    outputs : Path, optional
        Folder of the outputs; default is the receipt's own.
    trusted_key : str
        Public key, hex, of the service that should have signed it.

    Returns
    -------
    list of Level
        Ledger, outputs, events. A level that fails leaves those after it unchecked.
    """
    found: dict[int, Path] = {}
    receipt: dict[str, Any] = {}

    def ledger() -> str:
        receipt.update(_read(path))
        signer = check_signature(receipt, trusted_key)
        trust = "the key that you trust" if trusted_key else "a key that nobody vouched for"
        return f"{check_ledger(receipt)}; signed by {signer[:16]}…, {trust}"

    def files() -> str:
        found.update(_find_outputs(receipt, outputs or path.parent))
        size = sum(receipt["outputs"][index]["size"] for index in found)
        return f"{len(found)} outputs, {size} bytes, all as committed"

    checks: list[Callable[[], str]] = [
        ledger,
        files,
        lambda: _check_events(receipt, found),
    ]
    levels: list[Level] = []
    for name, check in zip(LEVELS, checks, strict=True):
        if levels and levels[-1].holds is not True:
            levels.append(Level(name, None, f"not checked, since {levels[-1].name} does not hold"))
            continue
        try:
            levels.append(Level(name, True, check()))
        except _CannotCheckError as reason:
            levels.append(Level(name, None, str(reason)))
        except EvstreamError as error:
            levels.append(Level(name, False, str(error)))
        except Exception as error:  # noqa: BLE001 - an odd output makes its reader raise anything
            levels.append(Level(name, None, f"cannot be checked: {type(error).__name__}: {error}"))
    return levels


class _CannotCheckError(Exception):
    """A level has nothing to look at."""


def _read(path: Path) -> dict[str, Any]:
    try:
        receipt = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise VerificationError(f"cannot read {path}: {error}") from error
    if not isinstance(receipt, dict):
        raise VerificationError(f"{path} is no receipt")
    return receipt


def _find_outputs(receipt: dict[str, Any], folder: Path) -> dict[int, Path]:
    """Return where each output is that no merge replaced, found by name or by content."""
    if not folder.is_dir():
        raise VerificationError(
            f"{folder} is no folder", hint="give the folder of the outputs with --outputs"
        )
    found: dict[int, Path] = {}
    by_size: dict[int, list[Path]] | None = None
    for index, output in enumerate(receipt["outputs"]):
        if output["merged_into"] is not None:
            continue
        named = folder / Path(output["file"]).name
        if not (named.is_file() and _matches(named, output)):
            if by_size is None:
                by_size = _files_by_size(folder)
            candidates = by_size.get(output["size"], [])
            other = next((path for path in candidates if _matches(path, output)), None)
            if other is None:
                state = "is not what was committed" if named.is_file() else "is missing"
                raise VerificationError(
                    f"{named} {state}",
                    hint="give the folder of the outputs with --outputs",
                )
            named = other
        found[index] = named
    return found


def _files_by_size(folder: Path) -> dict[int, list[Path]]:
    by_size: dict[int, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.is_file():
            by_size.setdefault(path.stat().st_size, []).append(path)
    return by_size


def _matches(path: Path, output: dict[str, Any]) -> bool:
    if path.stat().st_size != output["size"]:
        return False
    return digest_of(path) == str(output["sha256"])


def _check_events(receipt: dict[str, Any], outputs: dict[int, Path]) -> str:
    import numpy as np

    names = None
    pieces = []
    for path in outputs.values():
        if path.suffix != ".root":
            continue
        names, numbers = _numbers(path, receipt["task"]["tree"], names, None)
        pieces.append(numbers)
    if names is None:
        raise _CannotCheckError("no run and event numbers in the outputs")
    made, made_counts = np.unique(np.concatenate(pieces), axis=0, return_counts=True)
    labels = ", ".join(names)
    sources = _source_numbers(receipt, names)
    if sources is None:
        if (made_counts > 1).any():
            raise VerificationError(
                f"{int((made_counts > 1).sum())} ({labels}) occur more than once in the outputs"
            )
        return f"no ({labels}) doubled among {int(made_counts.sum())}; sources not at hand"
    return _compare(made, made_counts, *np.unique(sources, axis=0, return_counts=True), labels)


def _compare(
    made: NDArray[np.int64],
    made_counts: NDArray[np.int64],
    given: NDArray[np.int64],
    given_counts: NDArray[np.int64],
    labels: str,
) -> str:
    """Compare two multisets of event numbers, each as sorted rows with counts."""
    expected = {tuple(row): int(n) for row, n in zip(given.tolist(), given_counts, strict=True)}
    for row, count in zip(made.tolist(), made_counts, strict=True):
        key = tuple(row)
        if key not in expected:
            raise VerificationError(f"({labels}) = {key} is in the outputs, not in the source")
        if count > expected[key]:
            raise VerificationError(f"({labels}) = {key} is in the outputs {count} times")
    total, kept = int(given_counts.sum()), int(made_counts.sum())
    if kept == total:
        return f"each of {total} ({labels}) is in the outputs once, as in the source"
    return f"{kept} of {total} ({labels}) were kept by the payload; none doubled, none foreign"


def _source_numbers(receipt: dict[str, Any], names: tuple[str, ...]) -> NDArray[np.int64] | None:
    """Return the event numbers of all committed entries; None if a source is away."""
    import numpy as np

    committed: dict[str, list[tuple[int, int]]] = {}
    for lfn, start, stop, *_ in receipt["commits"]:
        committed.setdefault(lfn, []).append((start, stop))
    pieces = []
    for file in receipt["files"]:
        paths = [Path(pfn) for pfn in file["pfns"] if "://" not in pfn]
        path = next((p for p in paths if p.is_file()), None)
        if path is None or path.stat().st_size != file["fingerprint"]["size"]:
            return None
        found, numbers = _numbers(path, receipt["task"]["tree"], names, file["entries"])
        if found is None:
            return None
        for start, stop in committed.get(file["lfn"], []):
            pieces.append(numbers[start:stop])
    return np.concatenate(pieces)


def _numbers(
    path: Path, tree: str, names: tuple[str, ...] | None, entries: int | None
) -> tuple[tuple[str, ...] | None, NDArray[np.int64]]:
    """Return the event numbers of a file, as rows, and the branches they are in.

    They are looked for in the task's tree, then in any other: a payload may name its
    own. With ``entries``, only the task's tree with so many entries will do.
    """
    # Half a second of imports that only this level needs.
    import numpy as np
    import uproot

    choices = [names] if names is not None else list(EVENT_NUMBERS)
    with uproot.open(path) as file:
        trees = [tree] if tree in file else []
        if entries is None:
            others = file.keys(cycle=False, filter_classname="TTree")
            trees += [name for name in others if name != tree]
        for name in trees:
            found = file[name]
            branches = set(found.keys(recursive=False))
            chosen = next((choice for choice in choices if branches.issuperset(choice)), None)
            if chosen is not None and entries in (None, found.num_entries):
                arrays = found.arrays(list(chosen), library="np")
                # Event numbers may use all 64 bits; equality survives the change of sign.
                columns = [arrays[branch].astype(np.uint64).view(np.int64) for branch in chosen]
                return chosen, np.stack(columns, axis=1)
    if entries is not None:
        return None, np.empty((0, 0), np.int64)
    raise _CannotCheckError(f"no run and event numbers in {path.name}")
