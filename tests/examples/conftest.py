"""Fixtures of the tests of examples."""

from tests.spine.conftest import command

__all__ = ["command"]
