"""Policies of caches: what each gives up, what all of them owe, and bounds that none exceeds."""

import itertools
import random
from collections.abc import Hashable

import numpy as np
import pytest

from evstream.domain.caching import POLICIES, ByReuse, Request, bound, replay
from evstream.domain.caching.blend import Blend
from evstream.domain.caching.heaps import Gdsf, Lfu
from evstream.domain.caching.optimum import minimum
from evstream.domain.caching.queues import Lru, S3Fifo, Sieve
from evstream.domain.caching.reuse import GHOSTS_MIN
from evstream.domain.caching.traces import KINDS, distinct_bytes
from evstream.domain.caching.waits import AGES, CLASSES, Waits, age_of, class_of


def never(key):
    return False


def filled(policy, sizes):
    for turn, (key, size) in enumerate(sizes.items()):
        policy.record(key, size, float(size), turn)
        policy.keep(key, size, float(size), turn)
    return policy


def same_size(keys):
    return [Request(float(turn), key, 1, 1.0) for turn, key in enumerate(keys)]


@pytest.mark.parametrize("name", POLICIES)
def test_books_hold_under_random_use(name, rng):
    """What is given up is held, not busy, enough if there is enough, and gone from the books."""
    policy = POLICIES[name](1_000)
    held = {}
    for turn in range(3_000):
        key, size = rng.randrange(60), rng.randint(1, 120)
        policy.record(key, held.get(key, size), 1.0, turn)
        busy = {other for other in held if rng.random() < 0.3}
        deed = rng.random()
        if deed < 0.5 and key not in held:
            policy.admits(key, size, 1.0, turn)
            policy.keep(key, size, 1.0, turn)
            held[key] = size
        elif deed < 0.6:
            policy.remove(key)
            held.pop(key, None)
        elif deed < 0.9:
            needed = rng.randint(1, 300)
            spare = sum(held[other] for other in held if other not in busy)
            gone = policy.victims(needed, busy.__contains__)
            assert len(set(gone)) == len(gone)
            assert busy.isdisjoint(gone)
            assert sum(held.pop(other) for other in gone) >= min(needed, spare)
    everything = policy.victims(10**9, never)
    assert sorted(everything) == sorted(held)
    assert policy.victims(1, never) == []


@pytest.mark.parametrize("name", POLICIES)
def test_what_is_kept_anew_has_its_new_size(name):
    policy = filled(POLICIES[name](100), {"a": 10, "b": 10})
    policy.keep("a", 50, 50.0, 3.0)
    assert sorted(policy.victims(60, never)) == ["a", "b"]


@pytest.mark.parametrize("name", POLICIES)
def test_a_cache_found_on_disk_is_entered_without_requests(name):
    policy = POLICIES[name](30)
    for turn, key in enumerate("abc"):
        policy.keep(key, 10, 10.0, turn)
    assert len(policy.victims(20, never)) == 2


def test_lru_gives_up_what_was_not_asked_for_the_longest():
    policy = filled(Lru(30), {"a": 10, "b": 10, "c": 10})
    policy.record("a", 10, 10.0, 9.0)
    assert policy.victims(15, never) == ["b", "c"]


def test_lfu_gives_up_what_was_asked_for_least_often():
    policy = filled(Lfu(30), {"a": 10, "b": 10, "c": 10})
    for key in "aac":
        policy.record(key, 10, 10.0, 9.0)
    assert policy.victims(15, never) == ["b", "c"]


def test_gdsf_gives_up_what_is_large_and_ages():
    policy = filled(Gdsf(1_000), {"large": 900, "small": 10})
    assert policy.victims(1, never) == ["large"]
    dear = filled(Gdsf(1_000, by_cost=True), {"large": 900, "small": 10})
    dear.record("large", 900, 900.0, 9.0)
    assert dear.victims(1, never) == ["small"]


def test_sieve_spares_what_was_asked_for_since_the_hand_came_by():
    policy = filled(Sieve(30), {"a": 10, "b": 10, "c": 10})
    policy.record("a", 10, 10.0, 9.0)
    assert policy.victims(10, never) == ["b"]
    policy.keep("d", 10, 10.0, 10.0)
    # The hand goes on from where it stands: `a` has lost its mark, but its turn comes after.
    assert policy.victims(30, never) == ["c", "d", "a"]


def test_s3_fifo_remembers_what_left_the_small_queue():
    policy = filled(S3Fifo(50), {"a": 10, "b": 10, "c": 10})
    assert policy.victims(10, never) == ["a"]
    policy.keep("a", 10, 10.0, 9.0)  # to the main queue
    assert policy.victims(20, never) == ["b", "c"]


def test_replay_counts_hits_and_bytes():
    trace = [Request(0, "a", 10, 1), Request(1, "a", 10, 1), Request(2, "b", 200, 1)]
    outcome = replay(trace, Lru(100), 100)
    assert (outcome.hits, outcome.bytes_asked, outcome.origin_bytes) == (1, 220, 210)
    assert outcome.cost == 2
    assert outcome.hit_rate == pytest.approx(1 / 3)
    assert replay([], Lru(100), 100).hit_rate == 0.0


def test_a_product_whose_size_changed_is_fetched_again():
    trace = [Request(0, "a", 10, 1), Request(1, "a", 20, 1), Request(2, "a", 20, 1)]
    for make in POLICIES.values():
        assert replay(trace, make(100), 100).hits == 1


def best_by_trying_all(trace, capacity):
    """Hits of the best cache of equal products, by trying every choice."""
    states: dict[frozenset[Hashable], int] = {frozenset(): 0}
    for request in trace:
        after: dict[frozenset[Hashable], int] = {}
        for held, hits in states.items():
            now = hits + (request.key in held)
            could_be = held | {request.key}
            for size in range(min(capacity, len(could_be)) + 1):
                for kept in map(frozenset, itertools.combinations(could_be, size)):
                    after[kept] = max(after.get(kept, 0), now)
        states = after
    return max(states.values())


def test_the_minimum_is_what_trying_all_finds(rng):
    for _ in range(30):
        trace = same_size(rng.choices("abcde", k=14))
        for capacity in (1, 2, 3):
            assert minimum(trace, capacity) == best_by_trying_all(trace, capacity)


@pytest.mark.parametrize("kind", KINDS)
def test_no_policy_exceeds_the_bound(kind, seed):
    trace = KINDS[kind](random.Random(seed), 3_000)
    capacity = distinct_bytes(trace) // 10
    best = bound(trace, capacity)
    for make in POLICIES.values():
        outcome = replay(trace, make(capacity), capacity)
        assert outcome.hits <= best.hits
        assert outcome.bytes_asked - outcome.origin_bytes <= best.bytes_served
    equal = [request._replace(size=1) for request in trace]
    assert bound(equal, 50).hits >= minimum(equal, 50)


@pytest.mark.parametrize("kind", KINDS)
def test_traces_are_their_seeds(kind, seed):
    trace = KINDS[kind](random.Random(seed), 500)
    assert trace == KINDS[kind](random.Random(seed), 500)
    assert len(trace) == 500
    assert all(4_096 <= request.size <= 4 << 30 for request in trace)
    assert all(before.time <= after.time for before, after in itertools.pairwise(trace))


def test_ages_and_classes_stay_in_their_tables():
    assert 0 <= age_of(0) <= age_of(1) <= age_of(1 << 31) < AGES
    classes = {
        class_of(count, gap, size)
        for count in range(1, 40)
        for gap in (0.0, 3.2, 30.0)
        for size in (1, 10**6, 1 << 60)
    }
    assert min(classes) == 0
    assert max(classes) < CLASSES


def test_an_index_knows_what_comes_back_and_what_does_not():
    waits = Waits()
    soon, never_again = class_of(3, 4.0, 1e6), class_of(1, 0.0, 1e6)
    for _ in range(2_000):
        waits.ended[soon][age_of(15)] += 1
        waits.forgotten[never_again][age_of(1_000)] += 1
    waits.learn(np.zeros((CLASSES, AGES), np.int64))
    assert waits.rates[soon][0] == pytest.approx(1 / 15, rel=0.5)
    assert waits.rates[never_again][0] < 2e-3
    # Past the time at which it always came, nothing is known of it but that it did not come.
    assert waits.rates[soon][age_of(15)] > waits.rates[soon][0] > waits.rates[soon][age_of(100)]


def test_a_scan_does_not_drive_out_what_is_asked_for_often(rng):
    popular = [f"popular {number}" for number in range(20)]
    keys = [rng.choice(popular) if turn % 2 else f"scanned {turn}" for turn in range(8_000)]
    trace = same_size(keys)
    ours, lru = (replay(trace, make(20), 20) for make in (ByReuse, Lru))
    assert lru.hit_rate < 0.25
    assert ours.hit_rate > 0.4  # of 0.5 at most


def test_a_loop_larger_than_the_cache_is_served_in_part():
    trace = same_size(list(range(100)) * 60)
    assert replay(trace, Lru(50), 50).hits == 0
    assert replay(trace, ByReuse(50), 50).hit_rate > 0.35  # of 0.49


def test_a_costlier_miss_is_kept_before_a_cheaper_one(rng):
    trace = []
    for turn in range(6_000):
        number = rng.randrange(100)
        trace.append(Request(float(turn), number, 10, 50.0 if number < 50 else 1.0))
    outcome = replay(trace, ByReuse(500), 500)
    dear = sum(request.cost for request in trace)
    assert outcome.cost < 0.2 * dear


def test_an_empty_product_takes_its_place_too():
    policy = ByReuse(100)
    for key in range(200):
        policy.record(key, 0, 0.0, key)
        policy.admits(key, 0, 0.0, key)
        policy.keep(key, 0, 0.0, key)
    assert len(policy.victims(50, never)) == 50


def test_what_is_remembered_is_bounded():
    policy = ByReuse(100)
    for turn in range(GHOSTS_MIN + 10_000):
        policy.record(turn, 10, 10.0, turn)
        if policy.admits(turn, 10, 10.0, turn):
            if turn >= 10:
                policy.victims(10, never)
            policy.keep(turn, 10, 10.0, turn)
    assert len(policy._books.rows) <= GHOSTS_MIN + 10 + 1_000
    assert len(policy._books.keys) <= GHOSTS_MIN + 10 + 1_000
    assert len(policy._worst) < GHOSTS_MIN


def test_a_size_that_was_not_seen_before_fares_as_others_did():
    waits = Waits()
    known, new = class_of(1, 0.0, 1e5), class_of(1, 0.0, 1e8)
    at_first = waits.rates[new][age_of(10)]
    waits.forgotten[known][age_of(1_000)] += 5_000
    waits.learn(np.zeros((CLASSES, AGES), np.int64))
    assert waits.rates[new][age_of(10)] < 0.2 * at_first


@pytest.mark.parametrize("true_by", ["waits", "frequency"])
def test_the_estimate_that_explains_requests_gets_more_weight(true_by, rng):
    blend = Blend()
    by_waits, often = (np.array([10.0 ** rng.uniform(-6, -2) for _ in range(200)]) for _ in "ab")
    truth = by_waits if true_by == "waits" else often
    before = blend.share
    for _ in range(10):
        for row in rng.choices(range(200), truth.tolist(), k=300):
            blend.asked(by_waits[row], often[row])
        blend.learn(by_waits, often)
    assert (blend.share < before) == (true_by == "waits")
    assert blend.rate(1e-3, 1e-3) == pytest.approx(1e-3)
