"""Common axes of histograms: limits, labels, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evstream.rootio.axes import Axis, AxisMismatch, merge_axes


def _filled(*bins: int) -> np.ndarray:
    return np.array(bins, np.int64)


def _labelled(*labels: str, bins: int = 0) -> Axis:
    count = bins or len(labels)
    return Axis(count, 0.0, float(count), b"", tuple((t, i + 1) for i, t in enumerate(labels)))


def test_equal_axes_stay() -> None:
    axis = Axis(4, 0.0, 2.0, b"")
    merged = merge_axes(axis, axis, _filled(), _filled())
    assert merged.axis == axis
    assert merged.other.tolist() == [0, 1, 2, 3, 4, 5]


def test_limits_grow_on_a_common_grid() -> None:
    merged = merge_axes(Axis(4, 0, 4, b""), Axis(3, 2, 8, b""), _filled(1, 2), _filled(3))
    assert merged.axis.limits == (4, 0, 8, b"")
    assert merged.mine.tolist() == [0, 1, 1, 2, 2, 5]
    assert merged.other.tolist() == [0, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("one", "other", "filled", "why"),
    [
        (Axis(4, 0, 4, b""), Axis(4, 0.5, 4.5, b""), (), "fit together"),
        (Axis(4, 0, 4, b""), Axis(6, 0, 4, b""), (), "fit together"),
        (Axis(4, 0, 4, b""), Axis(4, 0, 8, b"edges"), (), "widths"),
        (Axis(4, 0, 4, b""), Axis(4, 2, 6, b""), (0,), "outside"),
        (Axis(4, 0, 4, b""), Axis(2, 0, 2, b""), (3,), "outside"),
        (Axis(4, 0, 4, b"", movable=False), Axis(4, 2, 6, b""), (), "automatically"),
        (Axis(4, 0, 4, b""), Axis(4, 0, 0, b""), (), "no limits"),
        (_labelled("a", "b"), _labelled("b", "a", bins=3), (3,), "without any"),
    ],
)
def test_what_has_no_common_axis_is_refused(
    one: Axis, other: Axis, filled: tuple[int, ...], why: str
) -> None:
    with pytest.raises(AxisMismatch, match=why):
        merge_axes(one, other, _filled(2), _filled(*filled or (1,)))


@pytest.mark.parametrize(
    "other",
    [
        Axis(4, 0.5, 4.5, b""), Axis(2, 0, 8, np.array([0, 1.0, 8]).tobytes()), Axis(4, 0, 0, b""),
        Axis(4, 2, 6, b"", movable=False),
    ],
)  # fmt: skip
def test_limits_of_what_holds_nothing_do_not_matter(other: Axis) -> None:
    one = Axis(3, 0, 4, b"")
    merged = merge_axes(one, other, _filled(0, 2), _filled())
    assert merged.axis == one
    assert merged.mine.tolist() == [0, 1, 2, 3, 4]
    assert len(merged.other) == other.bins + 2
    merged = merge_axes(other, one, _filled(), _filled(0, 2))
    assert merged.axis.limits == one.limits
    assert merged.other.tolist() == [0, 1, 2, 3, 4]
    assert len(merged.mine) == other.bins + 2


def test_what_lies_below_and_above_stays_where_limits_agree() -> None:
    merged = merge_axes(Axis(4, 0, 4, b""), Axis(6, 0, 6, b""), _filled(0, 1), _filled(0, 7))
    assert merged.axis.limits == (6, 0, 6, b"")
    assert merged.mine.tolist() == [0, 1, 2, 3, 4, 7]


def test_labels_decide_and_not_bin_numbers() -> None:
    merged = merge_axes(_labelled("all", "muon"), _labelled("all", "jet", "muon"), _filled(1, 2),
                        _filled(1, 2, 3))  # fmt: skip
    assert dict(merged.axis.labels) == {"all": 1, "muon": 2, "jet": 3}
    assert merged.axis.limits == (4, 0.0, 4.0, b"")
    assert merged.mine.tolist() == [0, 1, 2, 5]
    assert merged.other.tolist() == [0, 1, 3, 2, 5]


def test_labels_that_do_not_contradict_each_other_are_united_in_place() -> None:
    one, other = Axis(3, 0, 3, b"", (("a", 1),)), Axis(3, 0, 3, b"", (("c", 3),))
    merged = merge_axes(one, other, _filled(1, 2), _filled(2, 3))
    assert merged.axis.labels == (("a", 1), ("c", 3))
    assert merged.other.tolist() == [0, 1, 2, 3, 4]


def _category(*labels: str, edges: list[float] | None = None) -> Axis:
    edges = edges or [float(k) for k in range(len(labels) + 1)]
    stored = np.array(edges).tobytes()
    return replace(_labelled(*labels), high=edges[-1], edges=stored)


def test_categories_get_as_many_bins_as_labels() -> None:
    one, other = _category("ee", "mumu"), _category("mumu", "tautau", "x")
    merged = merge_axes(one, other, _filled(1, 2), _filled(1, 2, 3))
    assert merged.axis == _category("ee", "mumu", "tautau", "x")
    assert merged.mine.tolist() == [0, 1, 2, 5]
    assert merged.other.tolist() == [0, 2, 3, 4, 5]


def test_categories_that_nothing_was_filled_into_grow_and_add_nothing() -> None:
    empty, other = _category(), _category("ee", "mumu")
    for one, two in ((empty, other), (other, empty)):
        merged = merge_axes(one, two, _filled(), _filled())
        assert merged.axis == other
        assert (merged.mine[0], merged.mine[-1]) == (merged.other[0], merged.other[-1]) == (0, 3)


def test_labels_of_bins_that_differ_in_width_have_no_room_for_more() -> None:
    uneven = _category("a", "b", edges=[0.0, 1.0, 3.0])
    with pytest.raises(AxisMismatch, match="differ in width"):
        merge_axes(uneven, _category("c"), _filled(1), _filled(1))
