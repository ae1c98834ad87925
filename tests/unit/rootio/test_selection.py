"""Names and patterns of branches."""

from __future__ import annotations

from pathlib import Path

import pytest

from evstream import rootio


@pytest.fixture
def tree(small_file: Path) -> rootio.TreeIndex:
    with rootio.FileSource(small_file) as source:
        return rootio.inspect(source).trees["Events"]


def test_patterns_follow_the_order_of_the_tree(tree: rootio.TreeIndex) -> None:
    assert rootio.select_branches(tree, ["jet", "*i*"]) == ["i", "fixed", "jet"]


def test_unknown_names_suggest_near_ones(tree: rootio.TreeIndex) -> None:
    with pytest.raises(rootio.UnknownBranchError) as caught:
        rootio.select_branches(tree, ["Fixd"])
    assert caught.value.fields["nearest"] == ["fixed"]


def test_counters_come_along(small_file: Path) -> None:
    with rootio.FileSource(small_file) as source:
        cut = rootio.plan_cut(
            rootio.inspect(source), tree="Events", entry_start=0, entry_stop=5, branches=["jet"]
        )
    assert cut.branches == ("njet", "jet")


def test_trees_are_listed_when_one_is_missing(small_file: Path) -> None:
    with rootio.FileSource(small_file) as source:
        index = rootio.inspect(source)
    with pytest.raises(rootio.NoSuchTreeError) as caught:
        index.tree("events")
    assert caught.value.fields["trees"] == ["Events", "deep/er/other"]


@pytest.mark.parametrize(("start", "stop"), [(-1, 5), (5, 4), (0, 501), (501, 501)])
def test_ranges_outside_the_tree_are_refused(small_file: Path, start: int, stop: int) -> None:
    with rootio.FileSource(small_file) as source:
        index = rootio.inspect(source)
    with pytest.raises(rootio.EntryRangeError):
        rootio.plan_cut(index, tree="Events", entry_start=start, entry_stop=stop)
