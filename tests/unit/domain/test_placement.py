"""Where products should be: what spreads, what is dropped, what is expected next."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from evstream.domain.placement import EdgeRoom, PlacedProduct, Spreading, expected_next, place

NAMES = ("lyon", "praha", "roma", "oslo")
EDGES = [EdgeRoom(name, 1_000) for name in NAMES]
ONE = PlacedProduct("key", 100, score=1.0, edges=frozenset({"lyon"}))


def test_what_is_wanted_by_few_stays_where_it_is() -> None:
    assert place([ONE], EDGES) == []


def test_what_is_hot_spreads() -> None:
    decisions = place([replace(ONE, score=20.0)], EDGES)
    assert [decision.deed for decision in decisions] == ["spread", "spread"]
    assert "lyon" not in {decision.edge for decision in decisions}
    assert "20 requests" in decisions[0].reason


def test_readers_count_without_a_score() -> None:
    assert len(place([replace(ONE, score=0.0, readers=100)], EDGES)) == 3


def test_what_is_cold_is_dropped_but_where_it_is_pinned() -> None:
    cold = replace(ONE, score=0.001, edges=frozenset({"lyon", "roma"}), pinned=frozenset({"roma"}))
    assert [(one.deed, one.edge) for one in place([cold], EDGES)] == [("drop", "lyon")]
    assert place([replace(cold, readers=1, edges=frozenset({"lyon"}))], EDGES) == []


def test_nothing_is_sent_where_there_is_no_room_nor_beyond_the_rounds_bytes() -> None:
    hot = replace(ONE, score=1e6)
    assert place([hot], [EdgeRoom("roma", 99), EdgeRoom("lyon", 10**9)]) == []
    assert len(place([hot], EDGES, bytes_max=250)) == 2


def test_what_nobody_has_is_made_where_it_is_asked_for() -> None:
    assert place([replace(ONE, score=1e6, edges=frozenset())], EDGES) == []


def test_what_is_compared_is_at_two_edges_as_long_as_anybody_wants_it() -> None:
    compared = replace(ONE, compared=True)
    (decision,) = place([compared], EDGES)
    assert decision.deed == "spread"
    assert "compare" in decision.reason
    twice = replace(compared, edges=frozenset({"lyon", "roma"}))
    assert place([twice], EDGES) == []
    assert [one.deed for one in place([replace(twice, score=0.001)], EDGES)] == ["drop", "drop"]
    assert len(place([replace(compared, score=50.0)], EDGES)) == 3


products = st.builds(
    PlacedProduct,
    key=st.text("abcdef0123456789", min_size=4, max_size=8),
    size=st.integers(0, 600),
    score=st.floats(0, 1e6),
    readers=st.integers(0, 300),
    edges=st.frozensets(st.sampled_from(NAMES)),
    pinned=st.frozensets(st.sampled_from(NAMES)),
    compared=st.booleans(),
)
lists = st.lists(products, max_size=8, unique_by=lambda product: product.key)


@given(lists, st.randoms(use_true_random=False))
def test_decisions_can_be_carried_out_and_then_nothing_is_left(before, chance) -> None:
    decisions = place(before, EDGES)
    room = dict.fromkeys(NAMES, 1_000)
    after = {product.key: product for product in before}
    for decision in decisions:
        product = after[decision.key]
        if decision.deed == "spread":
            assert decision.edge not in product.edges
            room[decision.edge] -= product.size
            after[decision.key] = replace(product, edges=product.edges | {decision.edge})
        else:
            assert decision.edge in product.edges - product.pinned
            after[decision.key] = replace(product, edges=product.edges - {decision.edge})
    assert min(room.values()) >= 0
    left = [EdgeRoom(name, free) for name, free in room.items()]
    assert place(after.values(), left) == []
    shuffled = list(before)
    chance.shuffle(shuffled)
    assert place(shuffled, EDGES[::-1]) == decisions


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.integers(0, 500))
def test_more_is_never_worth_fewer_copies(one, other, readers) -> None:
    rules = Spreading()
    low, high = sorted((one, other))
    assert rules.copies(low, readers) <= rules.copies(high, readers) <= rules.copies_max


def test_who_reads_on_is_expected_to() -> None:
    recent = [(50, 60), (0, 10), (10, 20), (20, 30)]
    assert expected_next(recent, 45, ahead=3) == [(30, 40), (40, 45)]
    assert expected_next(recent[:3], 45) == []
    assert expected_next([(0, 10), (10, 20), (30, 40)], 45) == []
    assert expected_next([(0, 10), (10, 20), (20, 45)], 45) == []
