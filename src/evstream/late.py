"""Names of packages that are loaded when they are used: starting is part of a pilot's time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def late(package: str, places: Mapping[str, tuple[str, ...]]) -> Callable[[str], Any]:
    """Return a package's ``__getattr__``.

    Parameters
    ----------
    package : str
        Its ``__name__``.
    places : mapping of str to tuple of str
        The names that it offers, by the module that has them.
    """
    modules = {name: module for module, names in places.items() for name in names}

    def find(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(import_module(modules[name]), name)
        # The next time it is an attribute like any other.
        vars(import_module(package))[name] = found
        return found

    return find
