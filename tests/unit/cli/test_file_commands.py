"""Commands on files say which file is wrong, why, and what to do."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import uproot

from evstream import rootio
from evstream.cli.cut import cut
from evstream.cli.get import parse_entries
from evstream.cli.inspect import inspect
from evstream.cli.join import join
from evstream.domain.errors import ConfigError, RequestError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.root"
    with uproot.recreate(path) as file:
        file["t"] = {"x": np.arange(10)}
    return path


def test_no_folder_to_write_in_is_told(source: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"none/cut.root: there is no folder .*/none; make it first"
    ):
        cut(source, tmp_path / "none" / "cut.root")
    with pytest.raises(ConfigError, match="there is no folder"):
        join(tmp_path / "none" / "joined.root", source, source)


def test_what_is_no_file_is_told_and_waits_for_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match=r"pipe: not a regular file"):
        inspect(tmp_path / "pipe")
    with pytest.raises(ConfigError, match=rf"{tmp_path}: Is a directory"):
        inspect(tmp_path)
    with pytest.raises(ConfigError, match=r"No such file") as caught:
        inspect(Path("http://localhost/x.root"))
    assert "must be here" in caught.value.hint


@pytest.mark.parametrize("text", ["", "\n \n", "-1\n", "9999999999999999999999", "one"])
def test_lists_that_name_no_entries_are_told(text: str, source: Path, tmp_path: Path) -> None:
    chosen = tmp_path / "chosen.txt"
    chosen.write_text(text)
    with pytest.raises(RequestError, match=r"chosen.txt"):
        cut(source, tmp_path / "cut.root", entry_list=chosen)


def test_numbers_without_end_are_no_range() -> None:
    with pytest.raises(RequestError, match="no range"):
        parse_entries("0:" + 5000 * "9")


def test_a_name_may_hold_what_sets_off_a_cycle(tmp_path: Path) -> None:
    path = tmp_path / "odd.root"
    with uproot.recreate(path) as file:
        file["a;b/t"] = {"x": np.arange(10)}
        file["plain"] = {"x": np.arange(7)}
    with rootio.FileSource(path) as opened:
        index = rootio.inspect(opened)
    odd = next(name for name in index.trees if name != "plain")
    assert index.tree(odd).entries == 10
    assert index.tree("plain;1").entries == 7
