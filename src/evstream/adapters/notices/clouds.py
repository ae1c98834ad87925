"""Notices of clouds, by the metadata server that each gives to its machines.

They answer on a link-local address, so a proxy that is set for other requests is not used.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2

from evstream.domain.errors import TransientError
from evstream.ports.notice import Notice, Notices

LINK_LOCAL = "http://169.254.169.254"
ANSWER_S_MAX = 3.0
NOT_FOUND = 404
UNAUTHORIZED = 401


class _MetadataServer:
    """Asks a metadata server; a connection each time, since it is asked seldom."""

    def __init__(self, url: str) -> None:
        self._url = url or LINK_LOCAL

    async def ask(
        self, path: str, headers: Mapping[str, str], method: str = "GET"
    ) -> httpx2.Response:
        """Return its answer, be it a refusal.

        Raises
        ------
        TransientError
            It does not answer.
        """
        try:
            async with httpx2.AsyncClient(timeout=ANSWER_S_MAX, trust_env=False) as http:
                return await http.request(method, self._url + path, headers=dict(headers))
        except httpx2.HTTPError as error:
            raise TransientError(
                f"the metadata server {self._url} does not answer: {error!r}"
            ) from error


def _understood(answer: httpx2.Response) -> str:
    if answer.status_code != 200:
        raise TransientError(f"the metadata server answered {answer.status_code} to {answer.url}")
    return answer.text


def _seconds_to(moment: datetime) -> float:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp() - time.time()


def _read(text: str, read: Callable[[Any], float]) -> float:
    try:
        return read(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TransientError(f"a notice cannot be read: {text[:200]!r}") from error


class Aws:
    """The `Notices` port on EC2's spot instance actions: two minutes before the end.

    There is nothing (404) until there is a notice; then what happens and when. Sessions have
    tokens, of version 2 of the service. EC2 User Guide, "Spot Instance interruption notices"
    and "Use the Instance Metadata Service".
    """

    TOKEN_LIFE_S = 21600
    TOKEN = "X-aws-ec2-metadata-token"  # noqa: S105 - a header's name

    def __init__(self, url: str = "") -> None:
        self._server = _MetadataServer(url)
        self._token = ""

    async def look(self) -> Notice | None:
        """Return the notice that the instance is stopped or ended."""
        if not self._token:
            life = {f"{self.TOKEN}-ttl-seconds": str(self.TOKEN_LIFE_S)}
            self._token = _understood(await self._server.ask("/latest/api/token", life, "PUT"))
        path, shown = "/latest/meta-data/spot/instance-action", {self.TOKEN: self._token}
        answer = await self._server.ask(path, shown)
        if answer.status_code == NOT_FOUND:
            return None
        if answer.status_code == UNAUTHORIZED:
            # It lived for six hours; the next look has another.
            self._token = ""
        seconds = _read(
            _understood(answer), lambda told: _seconds_to(datetime.fromisoformat(told["time"]))
        )
        return Notice(seconds, evicted=True)


class Gce:
    """The `Notices` port on Compute Engine's preemption: half a minute before the end.

    Compute Engine documentation, "Create and use Spot VMs", handling of preemption: the
    value ``preempted`` is ``TRUE`` from then on.
    """

    SECONDS = 30.0

    def __init__(self, url: str = "") -> None:
        self._server = _MetadataServer(url)

    async def look(self) -> Notice | None:
        """Return the notice that the machine is preempted."""
        path = "/computeMetadata/v1/instance/preempted"
        answer = await self._server.ask(path, {"Metadata-Flavor": "Google"})
        if _understood(answer).strip() != "TRUE":
            return None
        return Notice(self.SECONDS, evicted=True)


class Azure:
    """The `Notices` port on scheduled events: half a minute before a spot machine's end.

    Azure documentation, "Azure Metadata Service: Scheduled Events for Linux VMs". Events name the
    machines that they are about, which may be others of a set. One that has begun
    has no time any more.
    """

    ENDING = frozenset({"Preempt", "Terminate", "Reboot", "Redeploy"})
    FLAVOR: Mapping[str, str] = {"Metadata": "true"}

    def __init__(self, url: str = "") -> None:
        self._server = _MetadataServer(url)
        self._name = ""

    async def look(self) -> Notice | None:
        """Return the notice of the first event that ends this machine."""
        if not self._name:
            path = "/metadata/instance/compute/name?api-version=2021-02-01&format=text"
            self._name = _understood(await self._server.ask(path, self.FLAVOR)).strip()
        path = "/metadata/scheduledevents?api-version=2020-07-01"
        text = _understood(await self._server.ask(path, self.FLAVOR))
        seconds = _read(text, self._seconds)
        return None if seconds == float("inf") else Notice(seconds, evicted=True)

    def _seconds(self, told: Any) -> float:
        ends = [
            _seconds_to(parsedate_to_datetime(event["NotBefore"])) if event["NotBefore"] else 0.0
            for event in told["Events"]
            if event["EventType"] in self.ENDING and self._name in event["Resources"]
        ]
        return min(ends, default=float("inf"))


CLOUDS: dict[str, Callable[[str], Notices]] = {"aws": Aws, "gce": Gce, "azure": Azure}
