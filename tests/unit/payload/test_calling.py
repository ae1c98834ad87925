"""Histograms that functions return, and the names that they are written by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hist
import pytest
import uproot

from evstream.payload.calling import write_histograms


def filled(value: float) -> Any:
    return hist.Hist.new.Reg(4, 0, 4).Double().fill([value])


def test_dicts_become_folders(tmp_path: Path) -> None:
    path = tmp_path / "out.root"
    write_histograms({"a": {"b": filled(1)}, "b": filled(2)}, path)
    with uproot.open(path) as file:
        assert file["a/b"].values().tolist() == [0, 1, 0, 0]
        assert file["b"].values().tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize(
    "returned",
    [
        {"a": {"b": filled(1)}, "a/b": filled(2)},
        {"a": filled(1), "a/": {"": filled(2)}},
        {1: filled(1), "1": filled(2)},
        {"a/b": filled(1), "a": filled(2)},
        {"a": {"b": {"c": filled(1)}}, "a/b": filled(2)},
    ],
)
def test_none_of_one_name_is_lost(returned: dict[object, object], tmp_path: Path) -> None:
    path = tmp_path / "out.root"
    with pytest.raises(TypeError, match="called"):
        write_histograms(returned, path)
    assert not path.exists()
