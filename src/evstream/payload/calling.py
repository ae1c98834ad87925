"""Python functions as payloads: found by name, given a unit, their histograms written."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from evstream.payload.units import Unit

HISTOGRAM_NAME = "histogram"
"""What one is called in the file if it has no name of its own."""


def load(target: str) -> Callable[..., Any]:
    """Return the function that ``module:function`` or ``path/to/file.py:function`` names.

    Raises
    ------
    ImportError, AttributeError
        There is none.
    """
    place, _, name = target.rpartition(":")
    if place.endswith(".py"):
        path = Path(place)
        # As for a script: what lies beside it can be imported.
        sys.path.insert(0, str(path.parent))
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
    else:
        module = importlib.import_module(place)
    function = reduce(getattr, name.split("."), module)
    if not callable(function):
        raise TypeError(f"{target} is no function, but of type {type(function).__name__}")
    return function


class Called:
    """A function as `serve` takes one. It is loaded where it is called.

    Parameters
    ----------
    arrays : bool
        Give it an awkward array of the unit's events, then the unit; else the unit.
        Secondary inputs come by their names: arrays as well, or else lists of paths.
    """

    def __init__(self, target: str, arrays: bool) -> None:
        self._target = target
        self._arrays = arrays
        self._function: Callable[..., Any] | None = None

    def initialise(self) -> None:
        """Load it."""
        self._function = load(self._target)

    def process(self, unit: Unit) -> None:
        """Call it for a unit and write the histograms that it returns.

        Raises
        ------
        TypeError
            What it returned is neither None nor histograms.
        """
        assert self._function is not None
        given: tuple[Any, ...] = (unit,)
        beside: dict[str, Any] = {name: each.files for name, each in unit.secondary.items()}
        if self._arrays:
            given = (read_arrays([unit.input], unit.tree), unit)
            beside = {
                name: read_arrays(each.files, each.tree) for name, each in unit.secondary.items()
            }
        returned = self._function(*given, **beside)
        if returned is not None:
            write_histograms(returned, unit.output)


def read_arrays(files: Sequence[Path], tree: str) -> Any:
    """Return the events of files, one after another, as an awkward array of records.

    Raises
    ------
    TypeError
        A file is of a format that is not read here.
    """
    arrays = [_read_array(path, tree) for path in files]
    if len(arrays) == 1:
        return arrays[0]
    import awkward

    return awkward.concatenate(arrays)


def _read_array(path: Path, tree: str) -> Any:
    if path.suffix == ".root":
        import uproot

        with uproot.open(path) as file:
            return file[tree].arrays()
    if path.suffix in (".parquet", ".pq"):
        import awkward

        return awkward.from_parquet(path)
    raise TypeError(
        f"events of {path.name} are not read as arrays, only those of ROOT and Parquet files; "
        "take the function's unit and read its files"
    )


def write_histograms(returned: Any, path: Path) -> None:
    """Write a histogram, or a mapping of them by name, to a ROOT file.

    Merging adds histograms of one name bin by bin; every event is in one unit's alone.

    Raises
    ------
    TypeError
        There are others than histograms, two of one name, or the file is not to be a ROOT
        file.
    """
    import uproot

    if path.suffix != ".root":
        raise TypeError(f"histograms are written to .root, and the output is {path.name}")
    named: dict[str, Any] = {}
    for given, histogram in _named(returned):
        name = "/".join(part for part in given.split("/") if part) or HISTOGRAM_NAME
        if name in named:
            raise TypeError(f"two histograms are called {name}; a dict in a dict is a folder")
        named[name] = histogram
    folders = {each.rpartition("/")[0] for each in named}
    for name in named:
        if any(f"{folder}/".startswith(f"{name}/") for folder in folders):
            raise TypeError(f"a histogram and a folder of others are both called {name}")
    if not named:
        raise TypeError("an empty mapping of histograms was returned")
    for name, histogram in named.items():
        if not (hasattr(histogram, "axes") and hasattr(histogram, "values")):
            raise TypeError(
                f"{name} is of type {type(histogram).__name__}; return histograms (hist or "
                "boost-histogram), a dict of them, or None and write the output yourself"
            )
    with uproot.recreate(path) as file:
        for name, histogram in named.items():
            file[name] = histogram


def _named(returned: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(returned, Mapping):
        for name, value in returned.items():
            yield from _named(value, f"{prefix}/{name}" if prefix else str(name))
    else:
        yield prefix or getattr(returned, "name", None) or "", returned
