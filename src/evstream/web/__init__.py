"""The HTTP API.

A new route is an `Operation` beside its handler in a ``*_routes.py`` (see
`evstream.web.operations`). Then write ``evstream api schema > docs/reference/openapi.json``
again, and a section into ``docs/reference/api.md``.
"""

from evstream.web.app import api_document, make_app
from evstream.web.services import Services

__all__ = ["Services", "api_document", "make_app"]
