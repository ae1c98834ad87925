"""The HTTP API."""

from evstream.web.app import make_app
from evstream.web.services import Services

__all__ = ["Services", "make_app"]
