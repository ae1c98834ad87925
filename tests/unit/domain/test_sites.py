"""Sites and links: distance, what is supposed, and how measurements fade."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from evstream.domain.errors import RequestError
from evstream.domain.sites import (
    LINK_HALF_LIFE_S,
    Link,
    Map,
    Measured,
    Pace,
    Site,
    distance_km,
    supposed,
)

NOW = datetime(2026, 5, 1, tzinfo=UTC)
LYON = Site("LYON", "FR", 45.78, 4.87)
TOKYO = Site("TOKYO", "JP", 35.71, 139.76)


def test_distance_is_that_of_the_sphere() -> None:
    # Half a meridian, and London to New York.
    assert distance_km(Site("N", "", 90, 0), Site("S", "", -90, 0)) == pytest.approx(20015, abs=2)
    london, york = Site("L", "GB", 51.507, -0.128), Site("Y", "US", 40.713, -74.006)
    assert distance_km(london, york) == pytest.approx(5570, rel=0.005)
    assert distance_km(LYON, Site("X")) is None


def test_half_a_place_is_refused() -> None:
    with pytest.raises(RequestError, match="half a place"):
        Site("X", "", 1.0, None)


def test_what_is_supposed_grows_with_distance() -> None:
    same, country, far = (
        supposed(LYON, LYON),
        supposed(LYON, Site("PARIS", "FR")),
        supposed(LYON, TOKYO),
    )
    assert same.trip_s < country.trip_s < far.trip_s
    assert same.bytes_per_s > country.bytes_per_s > far.bytes_per_s
    assert 0.15 < far.trip_s < 0.3
    # Two sites without a name are not one site.
    assert supposed(Site(""), Site("")) == supposed(Site("A"), Site("B"))


def test_measurements_take_over_and_fade() -> None:
    prior = Pace(0.06, 20e6)
    seen = Measured(trips=9, trips_s=0.09, bytes=900e6, seconds=9.0)
    now = prior.blended(seen)
    assert now.trip_s == pytest.approx((0.09 + 0.06) / 10)
    assert now.bytes_per_s == pytest.approx((900e6 + 20e6) / 10)
    assert now.measured
    long_ago = prior.blended(seen.after(20 * LINK_HALF_LIFE_S))
    assert long_ago.trip_s == pytest.approx(prior.trip_s, rel=0.01)
    assert not long_ago.measured


def test_the_same_measurements_in_any_order_are_the_same_link() -> None:
    first, second = Measured(1, 0.1, 10, 1), Measured(2, 0.4, 50, 2)
    later = NOW + timedelta(seconds=LINK_HALF_LIFE_S)
    begun = Link("S", "E", "to_site", Measured(), NOW)
    one = begun.with_more(first, NOW).with_more(second, later)
    assert one.measured == Measured(2.5, 0.45, 55, 2.5)
    assert one.at == later
    both = begun.with_more(first, NOW).with_more(second, NOW)
    assert both == begun.with_more(second, NOW).with_more(first, NOW)
    # A head whose clock is behind changes no time that has passed.
    assert one.with_more(first, NOW).at == later


def test_one_direction_stands_for_the_other_until_it_is_measured() -> None:
    seen = Measured(100, 10.0, 1e9, 100.0)
    out = Map([LYON], [Link("LYON", "e", "to_site", seen, NOW)], NOW)
    assert out.pace("LYON", "e", "TOKYO", "from_site").measured
    back = Link("LYON", "e", "from_site", Measured(100, 1.0, 1e9, 10.0), NOW)
    both = Map([LYON], [Link("LYON", "e", "to_site", seen, NOW), back], NOW)
    assert both.pace("LYON", "e", "", "from_site").trip_s < 0.02
    assert not both.pace("LYON", "other", "", "to_site").measured
