"""How commands find the service, and how they run what is asynchronous."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

from cyclopts import Parameter

from evstream.client import Address, Service
from evstream.client.bearer import discovered
from evstream.domain.errors import first_error
from evstream.settings import Settings, resolve

T = TypeVar("T")

Json = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON.")]


@Parameter(name="*")
@dataclass(frozen=True)
class Door:
    """Flags that say which service to talk to, and how to print what it says."""

    json: Json = False
    data: Annotated[Path | None, Parameter(help="Folder of the embedded service to talk to.")] = (
        None
    )
    url: Annotated[str | None, Parameter(help="Address: http://HOST:PORT or unix:/PATH.")] = None
    token: Annotated[str | None, Parameter(help="Bearer token of the service.")] = None

    def settings(self, **flags: object) -> Settings:
        """Return the settings, these flags and others first."""
        url, token, data = self.url, self.token, None
        if self.data is not None:
            # A folder that is named outweighs an address that stands in the environment.
            url, token, data = url or "", token or "", self.data.absolute()
        return settings_of(data_dir=data, url=url, token=token, **flags)

    def ask(self, work: Callable[[Service], Awaitable[T]]) -> T:
        """Connect to the service, do some work, and close the connection."""
        from evstream.assembly import connect

        settings = self.settings()

        async def main() -> T:
            service = connect(
                await find_service(settings, settings.patience_s), settings.patience_s
            )
            try:
                return await work(service)
            finally:
                await service.close()

        return run_async(main)


DEFAULT_DOOR = Door()


def settings_of(**flags: object) -> Settings:
    """Return the settings, flags first."""
    texts = {
        name: str(value) if isinstance(value, Path) else value for name, value in flags.items()
    }
    return resolve(texts).settings


async def find_service(settings: Settings, patience_s: float) -> Address:
    """Return the address of the service: the one named, else the data directory's.

    One that was killed there is waited for.
    """
    if settings.url:
        token, path = settings.token, settings.token_file
        if not token and not path:
            token, path = discovered(settings.url)
        return Address(settings.url, token, settings.ca_file, path)
    found = await Address.find(Path(settings.data_dir), patience_s)
    return Address(found.url, settings.token or found.token, settings.ca_file or found.ca_file)


def run_async(main: Callable[[], Awaitable[T]]) -> T:
    """Run a coroutine function; an error that a task group wrapped comes out bare."""

    async def call() -> T:
        return await main()

    with first_error():
        return asyncio.run(call())
