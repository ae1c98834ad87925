"""Flags of `evstream pilots` that say where pilots are started, and how."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from evstream.client import Address
from evstream.domain.errors import RequestError
from evstream.ports import Engine

EngineName = Literal["local", "slurm"]

NOT_PASSED = ("TOKEN", "TOKEN_FILE", "URL", "DATA_DIR", "CORES")
"""Settings that each pilot gets from us otherwise, or not at all."""
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")


@Parameter(name="*")
@dataclass(frozen=True)
class EngineOptions:
    """Where pilots are started."""

    engine: Annotated[EngineName, Parameter(help="Who starts them.")] = "local"
    folder: Annotated[Path, Parameter(help="Logs, scripts, and what is known of them.")] = Path(
        "evstream-pilots"
    )
    name: Annotated[str, Parameter(help="Names of pilots and jobs begin with it.")] = "pilot"
    option: Annotated[
        tuple[str, ...],
        Parameter(help="Option of sbatch, as in --option=--time=8:00:00; any number."),
    ] = ()
    command: Annotated[str, Parameter(help="How 'evstream' is called there; default as here.")] = ""
    pilot_token_file: Annotated[
        Path | None, Parameter(help="File with the pilots' token, which they can read.")
    ] = None

    def make(self, group: str) -> Engine:
        """Return the engine."""
        from evstream.assembly import engines

        if self.option and self.engine != "slurm":
            raise RequestError(
                f"--option is for Slurm, and the engine is {self.engine}",
                hint="leave it out, or choose --engine slurm",
            )
        if self.engine == "slurm":
            return engines.make_slurm_engine(self.folder, group, self.option)
        return engines.make_local_engine(self.folder, group)

    def words(self) -> list[str]:
        """Return the words that call evstream where pilots are."""
        return shlex.split(self.command) or [sys.executable, "-m", "evstream"]


def pilot_environment(address: Address, token_file: str) -> dict[str, str]:
    """Return what pilots are told by their environment: our settings, and no secret."""
    passed = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("EVSTREAM_") and name.removeprefix("EVSTREAM_") not in NOT_PASSED
    }
    # A proxy's own user and password would stand in a script.
    passed |= {
        name: value
        for name, value in os.environ.items()
        if name.upper() in PROXIES and "@" not in value
    }
    passed["EVSTREAM_URL"] = address.url
    if token_file:
        passed["EVSTREAM_TOKEN_FILE"] = token_file
    if address.ca_file:
        passed["EVSTREAM_CA_FILE"] = str(Path(address.ca_file).absolute())
    return passed
