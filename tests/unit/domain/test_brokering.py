"""Brokering: expected time in terms, homes by rendezvous, bounded load, stability."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evstream.domain.brokering import (
    AWAY_S_MIN,
    LOAD_FACTOR,
    LOAD_SLACK,
    MAKE_S,
    ROUND_TRIPS,
    Broker,
    EdgeView,
    Wanted,
    nearness,
    rendezvous,
)
from evstream.domain.sites import Link, Map, Measured, Pace, Site

NOW = datetime(2026, 5, 1, tzinfo=UTC)
SITES = [
    Site("LYON", "FR", 45.78, 4.87),
    Site("CERN", "CH", 46.23, 6.05),
    Site("TOKYO", "JP", 35.71, 139.76),
]
MB = 1_000_000


def key(number: int) -> str:
    return sha256(str(number).encode()).hexdigest()


def product(number: int = 1, size: int = MB, **more: object) -> Wanted:
    return Wanted(key(number), size, **more)  # type: ignore[arg-type]


def first(broker: Broker, wanted: Wanted, site: str = "") -> str:
    return broker.choose(wanted, site)[0].edge


def around(*edges: EdgeView, links: tuple[Link, ...] = ()) -> Broker:
    return Broker(edges, Map(SITES, links, NOW))


def test_without_edges_there_is_no_choice() -> None:
    assert Broker([]).choose(product()) == []
    assert Broker([]).explain(product()) == []


def test_the_nearest_edge_is_first_and_its_terms_add_up() -> None:
    broker = around(EdgeView("far", "TOKYO"), EdgeView("near", "LYON", queue_s=0.5))
    choices = broker.choose(product(), "LYON")
    assert [choice.edge for choice in choices] == ["near", "far"]
    best = choices[0]
    assert best.home
    assert best.queue_s == 0.5
    assert best.trips_s == pytest.approx(ROUND_TRIPS * 0.001)
    assert best.seconds == pytest.approx(best.trips_s + 0.5 + best.transfer_s + MAKE_S)
    assert choices[1].away_s == AWAY_S_MIN
    assert choices[1].trips_s > 0.2


def test_a_long_queue_sends_work_to_the_next() -> None:
    busy = EdgeView("busy", "LYON", queue_s=20.0)
    assert first(around(busy, EdgeView("far", "TOKYO")), product(), "LYON") == "far"


def test_what_is_held_is_taken_from_there_unless_that_costs_more() -> None:
    broker = around(EdgeView("a", "LYON"), EdgeView("b", "LYON"), EdgeView("c", "TOKYO"))
    for number in range(20):
        assert first(broker, product(number, held=["b"]), "LYON") == "b"
        # Ten megabytes from Tokyo take longer than making them next door again.
        assert first(broker, product(number, 10 * MB, held=["c"]), "LYON") != "c"
    (choice, *_) = broker.choose(product(held=["b"]), "LYON")
    assert choice.held
    assert choice.making_s == choice.away_s == choice.queue_s == 0
    assert choice.reason == "holds it"


def test_the_source_is_read_from_its_nearest_copy() -> None:
    broker = around(EdgeView("a", "LYON"), EdgeView("b", "TOKYO"))
    (best, other) = broker.choose(product(size=100 * MB, replica_sites=["TOKYO", "CERN"]), "LYON")
    assert (best.edge, best.source_site) == ("a", "CERN")
    assert (other.edge, other.source_site) == ("b", "TOKYO")
    assert "made from CERN" in best.reason


def test_what_was_measured_counts_more_than_what_is_supposed() -> None:
    slow = Link("LYON", "near", "to_site", Measured(20, 4.0, 100 * MB, 100.0), NOW)
    near, far = EdgeView("near", "LYON"), EdgeView("far", "CERN")
    assert first(around(near, far), product(), "LYON") == "near"
    measured = around(near, far, links=(slow,)).explain(product(), "LYON")
    assert [choice.edge for choice in measured] == ["far", "near"]
    assert [choice.measured for choice in measured] == [False, True]


@pytest.mark.parametrize("serves", [True, False])
def test_an_edge_that_is_refused_gets_nothing_new(serves: bool) -> None:
    leaving = EdgeView("leaving", "LYON", refused="it drains", serves=serves)
    broker = around(leaving, EdgeView("other", "TOKYO"))
    assert [choice.edge for choice in broker.choose(product(), "LYON")] == ["other"]
    held = broker.choose(product(held=["leaving"]), "LYON")
    assert (held[0].edge == "leaving") is serves
    told = broker.explain(product(), "LYON")
    assert [(choice.edge, choice.reason) for choice in told][1] == ("leaving", "it drains")


def test_what_has_no_room_for_a_product_is_no_home() -> None:
    small = EdgeView("small", "LYON", capacity_bytes=MB)
    broker = around(small, EdgeView("big", "TOKYO", capacity_bytes=100 * MB, free_bytes=99 * MB))
    told = broker.explain(product(size=2 * MB), "LYON")
    assert [choice.edge for choice in told] == ["big", "small"]
    assert "room" in told[1].reason


def test_a_full_edge_pays_for_what_it_throws_away() -> None:
    full = EdgeView("full", "LYON", capacity_bytes=10 * MB, free_bytes=0)
    (choice,) = around(full).choose(product(), "LYON")
    assert choice.room_s == pytest.approx(choice.making_s / 2)


def test_products_are_spread_by_weight() -> None:
    small, big = EdgeView("s", capacity_bytes=1000 * MB), EdgeView("b", capacity_bytes=3000 * MB)
    broker = Broker([small, big])
    homes = Counter(first(broker, product(number)) for number in range(4000))
    assert homes["b"] / homes["s"] == pytest.approx(3.0, rel=0.15)


def test_one_product_meets_at_one_edge_whoever_asks() -> None:
    edges = [EdgeView(f"e{n}", "LYON") for n in range(10)]
    heads = Broker(edges), Broker(reversed(edges))
    for number in range(100):
        assert len({first(head, product(number), "LYON") for head in heads}) == 1


def test_a_hot_product_has_more_homes_which_share_its_readers() -> None:
    edges = [EdgeView(f"e{n}") for n in range(10)]
    broker = Broker(edges)
    (only,) = [c for c in broker.explain(product()) if c.home]
    hot = [c.edge for c in broker.explain(product(spread=3)) if c.home]
    assert len(hot) == 3
    assert only.edge in hot
    # Where all homes hold it, the least busy is asked.
    load = {hot[0]: 5.0, hot[1]: 1.0, hot[2]: 3.0}
    chosen = broker.choose(product(spread=3, held=hot), load=load)
    assert [c.edge for c in chosen] == [hot[1], hot[2], hot[0]]


def test_load_is_bounded() -> None:
    """However products fall, nobody gets much more than a quarter above his share."""
    names = [f"e{n}" for n in range(8)]
    broker = Broker([EdgeView(name) for name in names])
    load = Counter[str]()
    for number in range(8000):
        (choice, *_) = broker.choose(product(number), load=load)
        load[choice.edge] += 1
    assert load.total() == 8000
    assert max(load.values()) <= LOAD_FACTOR * 1000 + LOAD_SLACK + 1


def test_a_loaded_edge_gives_its_next_product_to_the_second_in_order() -> None:
    broker = Broker([EdgeView(f"e{n}") for n in range(5)])
    order = rendezvous(key(1), {f"e{n}": 1.0 for n in range(5)})
    assert first(broker, product()) == order[0]
    (choice, *_) = broker.choose(product(), load={order[0]: 1000.0})
    assert choice.edge == order[1]
    assert choice.home


names = st.lists(st.from_regex(r"[a-z]{1,6}", fullmatch=True), min_size=2, max_size=12, unique=True)


@given(names, st.data())
def test_only_the_products_of_a_lost_edge_move(edges: list[str], data: st.DataObject) -> None:
    """Whatever edges there are, wherever they are; nothing else moves when one comes either."""
    at = {name: data.draw(st.sampled_from(["", "LYON", "CERN", "TOKYO"])) for name in edges}
    sizes = {name: data.draw(st.integers(1, 5)) * 1000 * MB for name in edges}
    all_of_them = [EdgeView(n, at[n], sizes[n], sizes[n]) for n in edges]
    lost = data.draw(st.sampled_from(edges))
    site = data.draw(st.sampled_from(["", "LYON", "TOKYO"]))
    # Capacities weigh against each other: who leaves changes no ratio among those who stay.
    before = around(*all_of_them)
    after = around(*(edge for edge in all_of_them if edge.name != lost))
    for number in range(30):
        (home,) = [c.edge for c in before.explain(product(number), site) if c.home]
        (later,) = [c.edge for c in after.explain(product(number), site) if c.home]
        assert home in (later, lost)


@given(st.floats(1e-4, 10), st.floats(1e3, 1e10))
def test_nearness_is_a_class_of_time(trip_s: float, bytes_per_s: float) -> None:
    near = nearness(Pace(trip_s, bytes_per_s))
    assert near >= 0
    assert nearness(Pace(trip_s * 2, bytes_per_s)) >= near
    assert nearness(Pace(trip_s, bytes_per_s / 2)) >= near


def test_what_was_promised_stays_where_it_is() -> None:
    broker = Broker([EdgeView(f"e{n}") for n in range(5)])
    order = rendezvous(key(1), {f"e{n}": 1.0 for n in range(5)})
    busy = {order[0]: 1000.0, order[3]: 1000.0}
    chosen = broker.choose(product(promised=[order[3]]), load=busy)
    assert (chosen[0].edge, chosen[0].home) == (order[3], True)
    # Hotter, it gets a home more; lost, it gets another.
    told = broker.explain(product(promised=[order[3]], spread=2), load=busy)
    assert {c.edge for c in told if c.home} == {order[3], order[1]}
    gone = [EdgeView(n, refused="silent" if n == order[3] else "") for n in order]
    assert first(Broker(gone), product(promised=[order[3]])) == order[0]
