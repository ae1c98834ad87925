"""The `Links` port: changes go to the owner, the rest to the reader."""

# ruff: noqa: S608 - names of columns are put into statements, and nothing else

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from evstream.adapters.catalogue.database import Database, from_microseconds, to_microseconds
from evstream.adapters.catalogue.owner import Owner
from evstream.adapters.catalogue.reader import Reader
from evstream.domain.errors import NotFoundError
from evstream.domain.sites import LINK_KEPT_S, Link, LinkName, Measured, Site

_LINK = "site, edge, direction, trips, trips_s, bytes, seconds, measured"


def _add_site(db: Database, site: Site) -> None:
    db.execute(
        "INSERT INTO site (name, country, latitude, longitude) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET country = excluded.country,"
        " latitude = excluded.latitude, longitude = excluded.longitude",
        (site.name, site.country, site.latitude, site.longitude),
    )


def _remove_site(db: Database, name: str) -> None:
    if not db.execute("DELETE FROM site WHERE name = ?", (name,)).rowcount:
        raise NotFoundError(f"there is no site {name}", hint="see 'evstream site list'")


def _sites(db: Database) -> list[Site]:
    rows = db.execute("SELECT name, country, latitude, longitude FROM site ORDER BY name")
    return [Site(*row) for row in rows.fetchall()]


def _link_of(row: Sequence[object]) -> Link:
    site, edge, direction, trips, trips_s, size, seconds, measured = row
    seen = Measured(trips, trips_s, size, seconds)  # type: ignore[arg-type]
    return Link(site, edge, direction, seen, from_microseconds(measured))  # type: ignore[arg-type]


def _add_measured(db: Database, measured: Sequence[tuple[LinkName, Measured]]) -> None:
    now = db.now()
    links: dict[LinkName, Link] = {}
    for name, more in measured:
        if (known := links.get(name)) is None:
            row = db.execute(
                f"SELECT {_LINK} FROM link WHERE site = ? AND edge = ? AND direction = ?", name
            ).fetchone()
            known = Link(*name, Measured(), now) if row is None else _link_of(row)
        links[name] = known.with_more(more, now)
    changed = ("trips", "trips_s", "bytes", "seconds", "measured")
    db.executemany(
        f"INSERT INTO link ({_LINK}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (site, edge, direction) DO UPDATE SET "
        + ", ".join(f"{column} = excluded.{column}" for column in changed),
        [
            (*name, seen.trips, seen.trips_s, seen.bytes, seen.seconds, to_microseconds(link.at))
            for name, link in links.items()
            for seen in [link.measured]
        ],
    )
    kept_since = to_microseconds(now - timedelta(seconds=LINK_KEPT_S))
    db.execute("DELETE FROM link WHERE measured <= ?", (kept_since,))


def _links(db: Database) -> list[Link]:
    rows = db.execute(f"SELECT {_LINK} FROM link ORDER BY site, edge, direction")
    return [_link_of(row) for row in rows.fetchall()]


class SqlLinks:
    """The `Links` port on the owner's database."""

    def __init__(self, owner: Owner, reader: Reader) -> None:
        self._owner = owner
        self._reader = reader

    async def add_site(self, site: Site) -> None:
        """Enter a site."""
        await self._owner.run(lambda db: _add_site(db, site))

    async def remove_site(self, name: str) -> None:
        """Take a site out."""
        await self._owner.run(lambda db: _remove_site(db, name))

    async def sites(self) -> list[Site]:
        """Return all sites by name."""
        return await self._reader.read(_sites)

    async def add_measured(self, measured: Sequence[tuple[LinkName, Measured]]) -> None:
        """Add to what is known of links."""
        await self._owner.run(lambda db: _add_measured(db, measured))

    async def links(self) -> list[Link]:
        """Return what is known of all links, by name."""
        return await self._reader.read(_links)

    async def now(self) -> datetime:
        """Return the database's time, aware, in UTC."""
        return await self._reader.read(lambda db: db.now())
