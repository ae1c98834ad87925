"""Several services behind one network, parts of which do not reach others."""

from __future__ import annotations

from collections.abc import Callable

import httpx2

from evstream.testing.faults import Wire

FULL, DEAF = "nothing arrives", "no answer arrives"


class Hosts:
    """Carries each request to the service that its URL names; the head by default.

    Attributes
    ----------
    answered : callable or None
        Is given each answer of the head.
    """

    def __init__(self, head: Wire) -> None:
        self.answered: Callable[[httpx2.Response], None] | None = None
        self._head = head
        self._wires: dict[str, Wire] = {}
        self._parted: dict[tuple[str, str], str] = {}

    def add(self, host: str, wire: Wire) -> None:
        """Enter a service besides the head."""
        self._wires[host] = wire

    def part(self, sender: str, host: str, how: str) -> None:
        """Cut somebody off from a service; the head's host is empty."""
        self._parted[sender, host] = how

    def heal(self, sender: str, host: str) -> None:
        """End what `part` began."""
        self._parted.pop((sender, host), None)

    def seen_from(self, sender: str) -> Way:
        """Return the network as somebody sees it."""
        return Way(self, sender)

    async def carry(self, sender: str, request: httpx2.Request) -> httpx2.Response:
        """Deliver a request, or fail as networks do."""
        host = request.url.host if request.url.host in self._wires else ""
        wire = self._wires.get(host, self._head)
        if self._parted.get((sender, host)) == FULL:
            raise httpx2.ConnectTimeout("simulated: cut off", request=request)
        response = await wire.carry(request)
        if wire is self._head and self.answered is not None:
            self.answered(response)
        if (sender, host) in self._parted:
            raise httpx2.ReadTimeout("simulated: the answer does not arrive", request=request)
        return response


class Way:
    """One sender's way to all services."""

    def __init__(self, hosts: Hosts, sender: str) -> None:
        self._hosts = hosts
        self._sender = sender

    async def carry(self, request: httpx2.Request) -> httpx2.Response:
        """Deliver a request."""
        return await self._hosts.carry(self._sender, request)
