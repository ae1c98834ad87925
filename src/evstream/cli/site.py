"""``evstream site``: where sites are, and how fast the ways to edges are."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from evstream.cli.printing import print_json, print_table
from evstream.cli.service import DEFAULT_DOOR, Door
from evstream.wire.delivery_messages import NewSite

Name = Annotated[str, Parameter(help="Name of a site, such as an RSE's.")]


def add(
    name: Name,
    *,
    country: Annotated[str, Parameter(help="Two capital letters (ISO 3166-1).")] = "",
    latitude: Annotated[float | None, Parameter(help="Degrees, north is positive.")] = None,
    longitude: Annotated[float | None, Parameter(help="Degrees, east is positive.")] = None,
    door: Door = DEFAULT_DOOR,
) -> None:
    """Say where a site is; again changes what is known of it.

    For example:

        evstream site add LYON --country FR --latitude 45.78 --longitude 4.87
    """
    new = NewSite(country, latitude, longitude)
    site = door.ask(lambda service: service.plans.add_site(name, new))
    if door.json:
        print_json(site)


def list_all(*, door: Door = DEFAULT_DOOR) -> None:
    """List the sites whose place is known.

    For example:

        evstream site list
    """
    sites = door.ask(lambda service: service.plans.sites())
    if door.json:
        print_json(sites)
        return
    rows = [
        (
            site.name,
            site.country or "-",
            "-" if site.latitude is None else f"{site.latitude:.2f}",
            "-" if site.longitude is None else f"{site.longitude:.2f}",
        )
        for site in sites
    ]
    print_table(["site", "country", "latitude", "longitude"], rows)


def remove(name: Name, *, door: Door = DEFAULT_DOOR) -> None:
    """Take a site out; what was measured of its links fades by itself.

    For example:

        evstream site remove LYON
    """
    door.ask(lambda service: service.plans.remove_site(name))


def links(*, door: Door = DEFAULT_DOOR) -> None:
    """List what was measured between sites and edges.

    For example:

        evstream site links
    """
    known = door.ask(lambda service: service.plans.links())
    if door.json:
        print_json(known)
        return
    rows = [
        (
            link.site,
            link.edge,
            "to the site" if link.direction == "to_site" else "from the site",
            f"{link.trip_s * 1000:.1f} ms",
            f"{link.bytes_per_s / 1e6:.1f} MB/s",
            f"{link.trips:.1f} trips, {link.seconds:.1f} s",
        )
        for link in known
    ]
    print_table(["site", "edge", "direction", "round trip", "pace", "measured lately"], rows)
