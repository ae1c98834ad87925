"""Verification of receipts, offline: the ledger, the outputs, the events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from evstream import rootio
from evstream.client.event_check import CannotCheckError, check_events
from evstream.client.event_numbers import Names
from evstream.client.results import digest_of
from evstream.domain.errors import EvstreamError, VerificationError
from evstream.domain.lineage import Lineage, check_lineage
from evstream.domain.receipt import LEVELS, check_ledger, receipt_digest
from evstream.ports import Formats
from evstream.wire.receipt_file import read_receipt
from evstream.wire.receipt_signature import check_key, check_signature

PARENTS, COMPLETE = "parents", "complete"
ROOT_SUFFIX = ".root"


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


def verify_receipt(
    path: Path,
    formats: Formats,
    outputs: Path | None = None,
    trusted_key: str = "",
    sources: Path | None = None,
    names: Names = (),
    parents: Sequence[Path] = (),
) -> list[Level]:
    """Verify a receipt on its three levels, and say whether the task did all it was asked.

    Parameters
    ----------
    outputs : Path, optional
        Folder of the outputs; default is the receipt's own.
    trusted_key : str
        Public key, hex, of the service that should have signed it.
    sources : Path, optional
        Folder of source files, besides the paths that the receipt names.
    names : tuple of str
        Branches that number events; by default, those that usually do.
    parents : sequence of Path
        Receipts of the tasks whose outputs the task took, and of their parents.

    Returns
    -------
    list of Level
        Ledger, outputs, events: a level that fails leaves those after it unchecked. Then,
        for a chained task, or where receipts of parents are given, "parents": whether it took
        what these left. Then "complete", which depends on the ledger's and on the parents':
        whether every event asked for was committed, by the parents too.

    Raises
    ------
    RequestError
        The trusted key is no key.
    """
    key = check_key(trusted_key) if trusted_key else ""
    found: dict[int, Path] = {}
    receipt: dict[str, Any] = {}

    def ledger() -> str:
        receipt.update(_read(path))
        signer = check_signature(receipt, key)
        trust = "the key that you trust" if key else "a key that nobody vouched for"
        return f"{check_ledger(receipt)}; signed by {signer[:16]}…, {trust}"

    def files() -> str:
        found.update(_find_outputs(receipt, outputs or path.parent))
        size = sum(receipt["outputs"][index]["size"] for index in found)
        return f"{len(found)} outputs, {size} bytes, all as committed"

    checks: list[Callable[[], str]] = [
        ledger,
        files,
        lambda: check_events(receipt, found, sources, formats, names),
    ]
    levels = _one_after_another(checks)
    further, lineage = _lineage(receipt, levels[0], parents, key)
    return [*levels, *further, _completeness(receipt, levels[0], further, lineage)]


def _one_after_another(checks: Sequence[Callable[[], str]]) -> list[Level]:
    levels: list[Level] = []
    for name, check in zip(LEVELS, checks, strict=True):
        if levels and levels[-1].holds is not True:
            levels.append(Level(name, None, f"not checked, since {levels[-1].name} does not hold"))
        else:
            levels.append(_check(name, check))
    return levels


def _check(name: str, check: Callable[[], str]) -> Level:
    try:
        return Level(name, True, check())
    except CannotCheckError as reason:
        return Level(name, None, str(reason))
    except EvstreamError as error:
        return Level(name, False, str(error))
    except Exception as error:  # noqa: BLE001 - an odd file makes its reader raise anything
        # What cannot be read is not what was committed.
        return Level(name, False, f"cannot be checked: {type(error).__name__}: {error}")


def _lineage(
    receipt: dict[str, Any], ledger: Level, paths: Sequence[Path], trusted_key: str
) -> tuple[list[Level], Lineage]:
    found = Lineage()
    if not receipt.get("parents") and not (ledger.holds and paths):
        return [], found
    if not ledger.holds:
        return [Level(PARENTS, None, "not checked, since ledger does not hold")], found
    if not receipt.get("parents"):
        said = "it took no outputs of tasks: the receipts of parents are not looked at"
        return [Level(PARENTS, None, said)], found

    def check() -> str:
        given: dict[str, dict[str, Any]] = {}
        for path in paths:
            parent = _read(path)
            check_signature(parent, trusted_key)
            given[receipt_digest(parent)] = parent
        nonlocal found
        found = check_lineage(receipt, given)
        tasks = ", ".join(str(task) for task in found.tasks)
        proved = f"each output of task {tasks} was taken once, as it was committed"
        if found.unproved:
            left = "; ".join(found.unproved)
            raise CannotCheckError(f"{left}{f'; {proved}' if tasks else ''}")
        return f"{proved}: {found.outputs} files"

    return [_check(PARENTS, check)], found


def _completeness(
    receipt: dict[str, Any], ledger: Level, parents: Sequence[Level], lineage: Lineage
) -> Level:
    if not ledger.holds:
        return Level(COMPLETE, None, "not checked, since ledger does not hold")
    events, committed = receipt["counts"]["events"], receipt["counts"]["committed"]
    lacking = list(lineage.lacking)
    if committed != events:
        lacking.insert(0, f"{committed} of {events} events asked for were committed")
    if lacking:
        return Level(COMPLETE, False, "; ".join(lacking))
    whole = f"all {events} events asked for were committed"
    if not receipt.get("parents"):
        return Level(COMPLETE, True, whole)
    if any(level.holds is not True for level in parents):
        why = "; ".join(lineage.unproved) or "parents does not hold"
        return Level(COMPLETE, None, f"{whole}, but not all is known of its parents: {why}")
    return Level(COMPLETE, True, f"{whole}, by its parents too")


def _read(path: Path) -> dict[str, Any]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise VerificationError(
            f"cannot read {path}: {error.strerror}", hint="give a receipt.json of evstream"
        ) from error
    return read_receipt(content)


def _find_outputs(receipt: dict[str, Any], folder: Path) -> dict[int, Path]:
    """Return where each output is that no merge replaced, found by name or by content."""
    if not folder.is_dir():
        raise VerificationError(
            f"{folder} is no folder", hint="give the folder of the outputs with --outputs"
        )
    files = _Folder(folder)
    found: dict[int, Path] = {}
    for index, output in enumerate(receipt["outputs"]):
        if output["merged_into"] is not None:
            continue
        found[index] = files.find(output)
        _check_entries(found[index], output)
    return found


class _Folder:
    """The files of a folder, each read at most once for its digest."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._digests: dict[Path, str] = {}
        self._by_size: dict[int, list[Path]] | None = None

    def find(self, output: dict[str, Any]) -> Path:
        """Return the file that has an output's content, by its name if possible.

        Raises
        ------
        VerificationError
            There is none.
        """
        named = self._folder / PurePosixPath(output["file"]).name
        size = named.stat().st_size if named.is_file() else -1
        if size == output["size"] and self._digest(named) == output["sha256"]:
            return named
        if self._by_size is None:
            self._by_size = _files_by_size(self._folder)
        for path in self._by_size.get(output["size"], []):
            if self._digest(path) == output["sha256"]:
                return path
        state = "is not what was committed" if size >= 0 else "is missing"
        raise VerificationError(
            f"{named} {state}", hint="give the folder of the outputs with --outputs"
        )

    def _digest(self, path: Path) -> str:
        if path not in self._digests:
            self._digests[path] = digest_of(path)
        return self._digests[path]


def _files_by_size(folder: Path) -> dict[int, list[Path]]:
    by_size: dict[int, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.is_file():
            by_size.setdefault(path.stat().st_size, []).append(path)
    return by_size


def _check_entries(path: Path, output: dict[str, Any]) -> None:
    """Refuse an output that has other entries than were committed with it."""
    if PurePosixPath(output["file"]).suffix != ROOT_SUFFIX:
        return
    with rootio.FileSource(path) as source:
        held = rootio.Rules().summed(rootio.inspect(source))
    for tree in {*held, *output["entries"]}:
        found, committed = held.get(tree, 0), output["entries"].get(tree, 0)
        if found != committed:
            raise VerificationError(
                f"{path.name} has {found} entries in {tree}, the receipt says {committed}"
            )
