"""Speaks the HTTP API: for pilots, edges and people alike."""

from evstream.client.address import Address
from evstream.client.connection import Connection
from evstream.client.service import Service

__all__ = ["Address", "Connection", "Service"]
