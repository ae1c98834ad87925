"""Lanes: who may use an edge's makers, how many wait, and who is sent away at once.

Makers are what turns sources into products; serving what is there needs none. Three lanes
share them::

    on demand     somebody waits for it now: a share of the makers is reserved, few may wait
    prepared      what a request asked for ahead: all that is not reserved
    background    what may be of use some day: what is left over

What is reserved is lent while nobody needs it, and returned at once: on-demand work begins
on its reserve though all makers are busy, and what was lent ends beside it. So for a short
time more is made at once than there are makers, by the reserve at most.

Nothing here waits or tells the time: `Lanes` is given the time, and says who begins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import Enum

from evstream.domain.errors import ConfigError, OverloadError

PACE_PRIOR_S = 1.0
"""What making a product takes, until some were made."""
PACE_WEIGHT = 0.2
"""Of the last product in the mean of a lane's."""
RETRY_S_MAX = 60.0
USERS_KEPT_MAX = 1_000
"""Whose use of a lane is remembered after they have nothing there; the rest begins anew."""


class Lane(Enum):
    """A lane, by its name in metrics, beats and signed URLs."""

    ON_DEMAND = "on-demand"
    PREPARED = "prepared"
    BACKGROUND = "background"


_HURRY = {lane: place for place, lane in enumerate(Lane)}


@dataclass(frozen=True, slots=True)
class Ask:
    """Who asks for a product to be made, and how it is to be treated.

    Attributes
    ----------
    user : str
        Makers are shared fairly among users; empty is a user like others.
    priority : int
        Of a user's own asks, that of the highest goes first.
    tail : bool
        It is one of the last units of its task, which waits for it: before all others of its lane.
    home : bool
        Whoever asks is at the edge's own site: before others of the same user and priority.
    site : str
        Where whoever asks is, for the access log; empty if it is not known.
    """

    lane: Lane = Lane.ON_DEMAND
    user: str = ""
    priority: int = 0
    tail: bool = False
    home: bool = True
    site: str = ""


@dataclass(frozen=True, slots=True)
class Asker:
    """For whom a product is, as the head says it in a signed URL.

    Attributes
    ----------
    user : str
        With whom makers are shared fairly; of a task, its queue.
    tail : bool
        It is for one of the last units of its task.
    site : str
        Where whoever asks is; empty if it is not known.
    """

    user: str = ""
    priority: int = 0
    tail: bool = False
    site: str = ""

    def ask(self, site: str) -> Ask:
        """Return how an edge at a site treats it."""
        home = not self.site or not site or self.site == site
        return Ask(Lane.ON_DEMAND, self.user, self.priority, self.tail, home, self.site)


@dataclass(frozen=True, slots=True)
class LaneRules:
    """How makers are shared.

    Attributes
    ----------
    makers : int
        Products that are made at once, what is returned of a loan left out.
    reserved : int
        Of these, for on-demand work.
    depth : int
        On-demand asks that wait at most; one more is sent away.
    waiting_max : int
        So for each of the other lanes.
    """

    makers: int
    reserved: int
    depth: int
    waiting_max: int = 10_000

    def __post_init__(self) -> None:
        if not 0 <= self.reserved <= self.makers or self.makers < 1 or self.depth < 0:
            raise ConfigError(
                f"{self.reserved} of {self.makers} makers reserved, {self.depth} may wait",
                hint="reserve no more makers than there are, and let none or some wait",
            )

    @classmethod
    def of(cls, makers: int, share: float, depth: int) -> LaneRules:
        """Return rules that reserve a share of the makers, rounded, one at least where any is."""
        reserved = max(1, round(makers * share)) if share > 0 else 0
        return cls(makers, min(reserved, makers), depth)

    @property
    def at_once_max(self) -> int:
        """How many makers may be busy at once, what is returned of a loan included."""
        return self.makers + self.reserved


@dataclass(slots=True, eq=False)
class Ticket:
    """Somebody's place: waiting, making (`begun` is set), or gone."""

    ask: Ask
    order: int
    begun: float | None = None
    charged: float = 0.0


@dataclass(frozen=True, slots=True)
class Turn:
    """What a change has brought about.

    Attributes
    ----------
    begin : tuple of Ticket
        Whose turn it is now.
    displaced : tuple of Ticket
        Who waited and has given way to a more urgent one: to be sent away.
    """

    begin: tuple[Ticket, ...] = ()
    displaced: tuple[Ticket, ...] = ()


@dataclass(frozen=True, slots=True)
class LaneState:
    """A lane as it is now; counts are since the start.

    Attributes
    ----------
    make_s : float
        Seconds that making one took lately; 0 where none was made.
    """

    lane: Lane
    waiting: int
    making: int
    made: int
    refused: int
    make_s: float


@dataclass(slots=True)
class _User:
    """What a user has had of a lane, in seconds of makers, and how much of it is going on."""

    used: float
    waiting: int = 0
    making: int = 0


@dataclass(slots=True)
class _Lane:
    lane: Lane
    depth: int
    waiting: dict[Ticket, None] = field(default_factory=dict)
    users: dict[str, _User] = field(default_factory=dict)
    level: float = 0.0
    making: int = 0
    made: int = 0
    refused: int = 0
    pace_s: float = PACE_PRIOR_S

    def user(self, name: str) -> _User:
        """Return a user; who was away has saved nothing up."""
        user = self.users.get(name)
        if user is None:
            user = self.users[name] = _User(self.level)
        if not (user.waiting or user.making):
            user.used = max(user.used, self.level)
        return user

    def next(self) -> Ticket:
        """Return whose turn it is: tails, then of the user that has had least the most urgent."""

        def place(ticket: Ticket) -> tuple[bool, float, int, bool, int]:
            ask = ticket.ask
            return (
                not ask.tail,
                self.users[ask.user].used,
                -ask.priority,
                not ask.home,
                ticket.order,
            )

        return min(self.waiting, key=place)

    def worth(self, ask: Ask, waiting: int) -> tuple[bool, int, int, bool]:
        """Return how much a place in a full lane is due; the least is given away."""
        return ask.tail, -waiting, ask.priority, ask.home

    def victim(self, ask: Ask) -> Ticket | None:
        """Return who gives way to an ask in a full lane; None: the ask itself is sent away."""
        if not self.waiting:
            return None

        def place(ticket: Ticket) -> tuple[tuple[bool, int, int, bool], int]:
            waiting = self.users[ticket.ask.user].waiting
            return self.worth(ticket.ask, waiting), -ticket.order

        last = min(self.waiting, key=place)
        own = self.users[ask.user].waiting if ask.user in self.users else 0
        # Of two users with as many places, none takes one from the other: it would be endless.
        others = self.users[last.ask.user].waiting
        mine = self.worth(ask, own + (ask.user != last.ask.user))
        return last if mine > self.worth(last.ask, others) else None

    def forget_idle(self) -> None:
        """Forget who has nothing here and no more than the others had: it makes no difference."""
        idle = [name for name, user in self.users.items() if not (user.waiting or user.making)]
        for name in idle:
            if self.users[name].used <= self.level or len(self.users) > USERS_KEPT_MAX:
                del self.users[name]


class Lanes:
    """Shares makers among lanes, and a lane's among users, by seconds of making.

    Parameters
    ----------
    rules : LaneRules
    """

    def __init__(self, rules: LaneRules) -> None:
        self._rules = rules
        self._order = 0
        self._lanes = {
            lane: _Lane(lane, rules.depth if lane is Lane.ON_DEMAND else rules.waiting_max)
            for lane in Lane
        }

    def enter(self, ask: Ask, now: float) -> tuple[Ticket, Turn]:
        """Take a place in a lane; it may be its turn at once.

        Raises
        ------
        OverloadError
            As many wait as may, and none is less urgent.
        """
        self._order += 1
        ticket = Ticket(ask, self._order)
        return ticket, self._place(ticket, now)

    def check(self, ask: Ask) -> None:
        """Send away at once who would be if they entered now; it costs less than to enter.

        Raises
        ------
        OverloadError
        """
        lane = self._lanes[ask.lane]
        if self._is_full(lane) and lane.victim(ask) is None:
            lane.refused += 1
            raise self.overload(ask.lane)

    def _is_full(self, lane: _Lane) -> bool:
        free = self._may_begin(lane) and not lane.waiting
        return not free and len(lane.waiting) >= lane.depth

    def _place(self, ticket: Ticket, now: float) -> Turn:
        lane = self._lanes[ticket.ask.lane]
        displaced: tuple[Ticket, ...] = ()
        if self._is_full(lane):
            victim = lane.victim(ticket.ask)
            lane.refused += 1
            if victim is None:
                raise self.overload(ticket.ask.lane)
            self._take_out(victim)
            displaced = (victim,)
        lane.user(ticket.ask.user).waiting += 1
        lane.waiting[ticket] = None
        return replace(self._begin(now), displaced=displaced)

    def hasten(self, ticket: Ticket, ask: Ask, now: float) -> Turn:
        """Let a place that waits be as urgent as another ask for the same thing.

        Raises
        ------
        OverloadError
            The other's lane is full. The place stays where it was.
        """
        old = ticket.ask
        lane = min(old.lane, ask.lane, key=_HURRY.__getitem__)
        better = replace(
            ask if lane is not old.lane else old,
            lane=lane,
            tail=old.tail or ask.tail,
            priority=max(old.priority, ask.priority),
            home=old.home or ask.home,
        )
        if ticket not in self._lanes[old.lane].waiting or better == old:
            return Turn()
        self._take_out(ticket)
        ticket.ask = better
        try:
            return self._place(ticket, now)
        except OverloadError:
            ticket.ask = old
            self._lanes[old.lane].user(old.user).waiting += 1
            self._lanes[old.lane].waiting[ticket] = None
            raise

    def leave(self, ticket: Ticket, now: float) -> Turn:
        """Give a place back: it was made, or is not wanted any more."""
        lane = self._lanes[ticket.ask.lane]
        if ticket in lane.waiting:
            self._take_out(ticket)
        elif ticket.begun is not None:
            seconds = max(0.0, now - ticket.begun)
            ticket.begun = None
            lane.making -= 1
            lane.made += 1
            weight = PACE_WEIGHT if lane.made > 1 else 1.0
            lane.pace_s += weight * (seconds - lane.pace_s)
            user = lane.users[ticket.ask.user]
            user.making -= 1
            user.used += seconds - ticket.charged
            lane.forget_idle()
        return self._begin(now)

    def overload(self, name: Lane) -> OverloadError:
        """Return what is told to who is sent away."""
        lane = self._lanes[name]
        return OverloadError(
            f"{len(lane.waiting)} wait for products to be made {name.value}",
            hint="ask again after the time given, or another edge",
            lane=name.value,
            waiting=len(lane.waiting),
            retry_after_s=self.retry_after_s(name),
        )

    def retry_after_s(self, name: Lane) -> float:
        """Return after how long a place may be free, by the pace of the last products."""
        lane = self._lanes[name]
        rules = self._rules
        makers = rules.reserved if name is Lane.ON_DEMAND else rules.makers - rules.reserved
        wait = (len(lane.waiting) + 1) * lane.pace_s / max(makers, 1)
        return min(RETRY_S_MAX, float(math.ceil(wait)))

    def states(self) -> list[LaneState]:
        """Return every lane as it is now."""
        return [
            LaneState(
                lane.lane,
                len(lane.waiting),
                lane.making,
                lane.made,
                lane.refused,
                lane.pace_s if lane.made else 0.0,
            )
            for lane in self._lanes.values()
        ]

    def _take_out(self, ticket: Ticket) -> None:
        lane = self._lanes[ticket.ask.lane]
        del lane.waiting[ticket]
        lane.users[ticket.ask.user].waiting -= 1
        lane.forget_idle()

    def _may_begin(self, lane: _Lane) -> bool:
        """Whether one more of a lane may begin, if no lane before it has anything to do."""
        free = sum(one.making for one in self._lanes.values()) < self._rules.makers
        return free or (lane.lane is Lane.ON_DEMAND and lane.making < self._rules.reserved)

    def _begin(self, now: float) -> Turn:
        begin = []
        while (lane := self._next_lane()) is not None:
            ticket = lane.next()
            del lane.waiting[ticket]
            user = lane.users[ticket.ask.user]
            lane.level = max(lane.level, user.used)
            # What it will take is charged at once: who asks for much at once gets no more.
            ticket.charged = lane.pace_s
            user.used += ticket.charged
            user.waiting -= 1
            user.making += 1
            lane.making += 1
            ticket.begun = now
            begin.append(ticket)
        return Turn(tuple(begin))

    def _next_lane(self) -> _Lane | None:
        on_demand, prepared, background = self._lanes.values()
        later = prepared if prepared.waiting else background if background.waiting else None
        if on_demand.waiting and on_demand.making < self._rules.reserved:
            return on_demand
        if sum(lane.making for lane in self._lanes.values()) >= self._rules.makers:
            return None
        ahead = prepared.making + background.making
        if later is not None and ahead < self._rules.makers - self._rules.reserved:
            return later
        return on_demand if on_demand.waiting else later
