"""Commands."""

from evstream.cli.main import main

__all__ = ["main"]
