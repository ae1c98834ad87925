"""``evstream api``: the HTTP API for other programs."""

from __future__ import annotations

from evstream.cli.printing import print_json
from evstream.web import api_document


def schema() -> None:
    """Print the HTTP API as OpenAPI 3.1, for generators of clients and for checks.

    For example:

        evstream api schema > openapi.json
    """
    print_json(api_document())
