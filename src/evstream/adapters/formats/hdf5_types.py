"""Types and values of HDF5 datasets: what they are called, and whether two are the same.

HDF5 converts between types that differ, numbers to other numbers and codes of an
enumeration to the other's codes, without a word. numpy's names do not tell such types apart:
all of variable length are ``object``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import h5py

CODES_SHOWN = 5


def type_name(dtype: np.dtype[Any]) -> str:
    """Return what people call a type, with the types in it and the codes of enumerations."""
    import h5py

    codes = h5py.check_enum_dtype(dtype)
    if codes is not None:
        shown = [f"{name}={value}" for name, value in sorted(codes.items(), key=lambda c: c[1])]
        more = ["…"] if len(shown) > CODES_SHOWN else []
        return f"enum of {dtype.name}: {', '.join([*shown[:CODES_SHOWN], *more])}"
    text = h5py.check_string_dtype(dtype)
    if text is not None:
        length = "" if text.length is None else f"[{text.length}]"
        return f"{text.encoding} string{length}"
    inner = h5py.check_vlen_dtype(dtype)
    if inner is not None:
        return f"var * {type_name(np.dtype(inner))}"
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return type_name(base) + "".join(f"[{length}]" for length in shape)
    if dtype.names is not None and dtype.fields is not None:
        members = (f"{name}: {type_name(dtype.fields[name][0])}" for name in dtype.names)
        return f"{{{', '.join(members)}}}"
    return str(dtype)


def are_of_one_type(one: h5py.Dataset, other: h5py.Dataset) -> bool:
    """Whether values of one dataset are the other's as they are, however deep.

    HDF5 itself takes texts of variable length for the same in ASCII and in UTF-8; their
    names tell.
    """
    return bool(
        one.id.get_type() == other.id.get_type() and type_name(one.dtype) == type_name(other.dtype)
    )


def are_equal(one: Any, other: Any) -> bool:
    """Whether two values are the same, however deep; what is no number equals its like."""
    if not isinstance(one, np.ndarray | np.generic):
        return bool(one == other)
    a, b = np.asarray(one), np.asarray(other)
    if a.shape != b.shape or a.dtype.names != b.dtype.names:
        return False
    if a.dtype.names is not None:
        return all(are_equal(a[name], b[name]) for name in a.dtype.names)
    if a.dtype.kind == "O":
        return all(map(are_equal, a.ravel().tolist(), b.ravel().tolist()))
    return np.array_equal(a, b, equal_nan=a.dtype.kind in "fc" and b.dtype.kind in "fc")
