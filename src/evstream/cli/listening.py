"""Flags that say where a service listens, and what TLS it speaks there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from evstream.domain.errors import ConfigError
from evstream.settings import Settings

if TYPE_CHECKING:
    from evstream.assembly.listening import TcpDoor


@Parameter(name="*")
@dataclass(frozen=True)
class Listening:
    """Flags of commands that serve."""

    listen: Annotated[
        str | None, Parameter(help="Listen there: HOST:PORT; beyond this machine with TLS only.")
    ] = None
    tls_cert: Annotated[
        Path | None, Parameter(help="PEM file of the certificate and its chain.")
    ] = None
    tls_key: Annotated[Path | None, Parameter(help="PEM file of the certificate's key.")] = None

    def flags(self) -> dict[str, object]:
        """Return the flags under the names of their settings."""
        files = {"tls_cert_file": self.tls_cert, "tls_key_file": self.tls_key}
        absolute = {name: path and path.absolute() for name, path in files.items()}
        return {"listen": self.listen, **absolute}


DEFAULT_LISTENING = Listening()


def open_door(port: int | None, settings: Settings) -> tuple[TcpDoor, str]:
    """Return the TCP socket that flags and settings ask for, and its URL.

    Raises
    ------
    ConfigError
        Two places are named, or the one cannot be listened at.
    """
    from evstream import assembly

    if port is not None and settings.listen:
        raise ConfigError(
            f"--port {port} and {settings.listen} are two places to listen at",
            hint="give one: --listen HOST:PORT",
        )
    place = settings.listen, settings.tls_cert_file, settings.tls_key_file
    return assembly.tcp_door(port or 0, *place)
