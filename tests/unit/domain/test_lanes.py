"""Lanes: reserves, loans, fair shares, and who is sent away."""

from __future__ import annotations

import contextlib
import random
from collections import Counter

import pytest

from evstream.domain.errors import ConfigError, OverloadError
from evstream.domain.lanes import Ask, Lane, LaneRules, Lanes, LaneState, Ticket

ON_DEMAND, PREPARED, BACKGROUND = Lane


def state(lanes: Lanes, lane: Lane) -> LaneState:
    return next(one for one in lanes.states() if one.lane is lane)


class Site:
    """Lanes, and who is making in them."""

    def __init__(self, makers: int, reserved: int, depth: int) -> None:
        self.rules = LaneRules(makers, reserved, depth)
        self.lanes = Lanes(self.rules)
        self.now = 0.0
        self.making: dict[Ticket, None] = {}
        self.displaced: list[Ticket] = []

    def enter(self, ask: Ask) -> Ticket:
        ticket, turn = self.lanes.enter(ask, self.now)
        self.making.update(dict.fromkeys(turn.begin))
        self.displaced += turn.displaced
        return ticket

    def leave(self, ticket: Ticket) -> None:
        self.making.pop(ticket, None)
        self.making.update(dict.fromkeys(self.lanes.leave(ticket, self.now).begin))

    def hasten(self, ticket: Ticket, ask: Ask) -> None:
        turn = self.lanes.hasten(ticket, ask, self.now)
        self.making.update(dict.fromkeys(turn.begin))
        self.displaced += turn.displaced

    def count(self, lane: Lane) -> int:
        return sum(ticket.ask.lane is lane for ticket in self.making)


def test_the_reserve_is_lent_and_returned_at_once() -> None:
    site = Site(makers=4, reserved=1, depth=8)
    prepared = [site.enter(Ask(PREPARED)) for _ in range(6)]
    assert site.count(PREPARED) == 4
    first = site.enter(Ask(ON_DEMAND))
    assert first in site.making
    assert len(site.making) == 5  # What was lent ends beside it.
    second = site.enter(Ask(ON_DEMAND))
    assert second not in site.making
    site.leave(prepared[0])
    assert (site.count(ON_DEMAND), site.count(PREPARED)) == (1, 3)
    site.leave(prepared[1])
    assert (site.count(ON_DEMAND), site.count(PREPARED)) == (1, 3)
    site.leave(first)
    assert second in site.making


def test_on_demand_uses_what_nobody_else_needs() -> None:
    site = Site(makers=4, reserved=1, depth=8)
    asked = [site.enter(Ask(ON_DEMAND)) for _ in range(6)]
    assert site.count(ON_DEMAND) == 4
    waiting = site.enter(Ask(PREPARED))
    site.leave(asked[0])
    assert waiting in site.making
    assert state(site.lanes, ON_DEMAND).waiting == 2


def test_background_has_what_is_left() -> None:
    site = Site(makers=2, reserved=0, depth=8)
    first = [site.enter(Ask(BACKGROUND)) for _ in range(3)]
    later = [site.enter(Ask(PREPARED)) for _ in range(2)]
    site.leave(first[0])
    site.leave(first[1])
    assert all(ticket in site.making for ticket in later)
    site.leave(later[0])
    assert first[2] in site.making


def test_beyond_its_depth_the_answer_tells_when() -> None:
    site = Site(makers=2, reserved=1, depth=3)
    asked = [site.enter(Ask()) for _ in range(5)]
    with pytest.raises(OverloadError) as refused:
        site.enter(Ask())
    assert refused.value.fields["retry_after_s"] == 4.0  # Four of one second, on one maker.
    site.now = 10.0
    site.leave(asked[0])
    site.enter(Ask())
    with pytest.raises(OverloadError) as refused:
        site.enter(Ask())
    assert refused.value.fields["retry_after_s"] == 40.0
    assert state(site.lanes, ON_DEMAND).refused == 2


@pytest.mark.parametrize("tail", [False, True])
def test_who_checks_first_is_told_what_entering_would_tell(tail: bool) -> None:
    site = Site(makers=1, reserved=1, depth=1)
    site.lanes.check(Ask())
    first, second = site.enter(Ask()), site.enter(Ask())
    ask = Ask(tail=tail)
    if tail:
        # The one that waits is less urgent.
        site.lanes.check(ask)
        site.enter(ask)
        assert site.displaced == [second]
    else:
        told = []
        for refuse in (site.lanes.check, site.enter):
            with pytest.raises(OverloadError) as caught:
                refuse(ask)
            told.append((caught.value.message, caught.value.fields))
        assert told[0] == told[1]
        assert state(site.lanes, ON_DEMAND).refused == 2
    site.leave(first)
    assert state(site.lanes, ON_DEMAND).waiting == 0
    site.lanes.check(Ask())


def test_a_lane_without_depth_takes_what_can_begin() -> None:
    site = Site(makers=1, reserved=1, depth=0)
    first = site.enter(Ask())
    with pytest.raises(OverloadError):
        site.enter(Ask())
    site.leave(first)
    assert site.enter(Ask()) in site.making


def test_tails_go_first_and_take_the_place_of_others() -> None:
    site = Site(makers=1, reserved=1, depth=2)
    site.enter(Ask())
    first, second = site.enter(Ask(user="a")), site.enter(Ask(user="b"))
    tail = site.enter(Ask(user="b", tail=True))
    assert len(site.displaced) == 1
    assert site.displaced[0] in (first, second)
    site.leave(next(iter(site.making)))
    assert tail in site.making


@pytest.mark.parametrize(
    ("less", "more"), [(Ask(priority=1), Ask(priority=2)), (Ask(home=False), Ask(home=True))]
)
def test_the_less_urgent_gives_way_and_goes_later(less: Ask, more: Ask) -> None:
    site = Site(makers=1, reserved=1, depth=2)
    running = site.enter(Ask())
    waiting = [site.enter(less), site.enter(less)]
    better = site.enter(more)
    assert site.displaced == [waiting[1]]
    with pytest.raises(OverloadError):
        site.enter(less)
    site.leave(running)
    assert list(site.making) == [better]


def test_a_user_with_few_places_gets_one_of_who_has_many() -> None:
    site = Site(makers=1, reserved=1, depth=4)
    site.enter(Ask(user="many"))
    for _ in range(4):
        site.enter(Ask(user="many"))
    for _ in range(2):
        site.enter(Ask(user="few"))
    assert Counter(ticket.ask.user for ticket in site.displaced) == {"many": 2}
    # Equal now: nobody takes from the other for ever.
    with pytest.raises(OverloadError):
        site.enter(Ask(user="few"))


def test_users_share_seconds_not_products() -> None:
    site = Site(makers=1, reserved=0, depth=0)
    cost = {"long": 3.0, "short": 1.0}
    for _ in range(200):
        for user in cost:
            site.enter(Ask(PREPARED, user=user))
    had: Counter[str] = Counter()
    while site.now < 120.0:
        (ticket,) = site.making
        user = ticket.ask.user
        site.now += cost[user]
        had[user] += 1
        site.leave(ticket)
    assert had["long"] * 3.0 == pytest.approx(had["short"] * 1.0, abs=6.0)


def test_who_was_away_has_saved_nothing_up() -> None:
    site = Site(makers=1, reserved=0, depth=0)
    site.enter(Ask(PREPARED, user="new"))
    site.now = 1.0
    site.leave(next(iter(site.making)))
    for _ in range(100):
        site.enter(Ask(PREPARED, user="old"))
    for _ in range(50):
        site.now += 1.0
        site.leave(next(iter(site.making)))
    for _ in range(40):
        site.enter(Ask(PREPARED, user="new"))
    order = []
    for _ in range(20):
        ticket = next(iter(site.making))
        order.append(ticket.ask.user)
        site.now += 1.0
        site.leave(ticket)
    assert 8 <= order.count("new") <= 12


def test_what_waits_ahead_is_hastened_by_who_needs_it_now() -> None:
    site = Site(makers=2, reserved=1, depth=1)
    busy = [site.enter(Ask(PREPARED)) for _ in range(2)]
    waiting = site.enter(Ask(PREPARED, user="a"))
    site.hasten(waiting, Ask(ON_DEMAND, user="b"))
    assert waiting in site.making
    assert waiting.ask.lane is ON_DEMAND
    other = site.enter(Ask(PREPARED))
    site.enter(Ask(ON_DEMAND))
    with pytest.raises(OverloadError):
        site.hasten(other, Ask(ON_DEMAND))
    assert state(site.lanes, PREPARED).waiting == 1
    for ticket in [*busy, waiting]:
        site.leave(ticket)
    assert other in site.making


def test_rules_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigError):
        LaneRules(2, 3, 1)
    assert LaneRules.of(8, 0.25, 5) == LaneRules(8, 2, 5)
    assert LaneRules.of(2, 0.1, 5).reserved == 1
    assert LaneRules.of(2, 0.0, 5).reserved == 0


def test_random_histories_keep_every_promise(rng: random.Random) -> None:
    for _ in range(30):
        makers = rng.randint(1, 6)
        site = Site(makers, rng.randint(0, makers), rng.randint(0, 5))
        alive: list[Ticket] = []
        for _ in range(300):
            site.now += rng.random()
            ask = Ask(
                rng.choice(list(Lane)),
                rng.choice("abc"),
                rng.randint(0, 2),
                rng.random() < 0.1,
                rng.random() < 0.5,
            )
            if rng.random() < 0.5:
                refused = state(site.lanes, ask.lane).refused
                with contextlib.suppress(OverloadError):
                    alive.append(site.enter(ask))
                if state(site.lanes, ask.lane).refused > refused:
                    assert state(site.lanes, ask.lane).waiting >= site.rules.depth
            elif alive and rng.random() < 0.2:
                with contextlib.suppress(OverloadError):
                    site.hasten(rng.choice(alive), ask)
            elif alive:
                site.leave(alive.pop(rng.randrange(len(alive))))
            alive = [ticket for ticket in alive if ticket not in site.displaced]
            check(site)
        for ticket in alive:
            site.leave(ticket)
        assert not site.making


def check(site: Site) -> None:
    states = {one.lane: one for one in site.lanes.states()}
    rules = site.rules
    for lane, known in states.items():
        assert known.making == site.count(lane)
    total = len(site.making)
    assert total <= rules.at_once_max
    on_demand = states[ON_DEMAND]
    assert on_demand.waiting <= rules.depth
    if on_demand.waiting:
        assert on_demand.making >= rules.reserved
    if any(known.waiting for known in states.values()):
        assert total >= rules.makers  # Nobody waits while a maker is free.
