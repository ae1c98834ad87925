"""Whose tokens a service takes."""

from __future__ import annotations

from evstream.domain.token_claims import TokenRoles
from evstream.ports import Clock, TokenIssuers
from evstream.settings import Settings


def open_issuers(settings: Settings, clock: Clock) -> TokenIssuers | None:
    """Return the issuers that settings name; None if they name none.

    Raises
    ------
    ConfigError
        The settings do not fit together.
    """
    roles = TokenRoles.parse(settings.token_roles)
    issuers = settings.token_issuers.split()
    if not issuers:
        return None
    # A service whose users have keys need not load what reads tokens.
    from evstream.adapters.token_issuers import WlcgIssuers

    return WlcgIssuers(issuers, settings.token_audience.split(), roles, clock, settings.ca_file)
