"""Flags of `evstream pilots` that say where pilots are started, and how."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from evstream.client import Address
from evstream.domain.errors import RequestError
from evstream.ports import Engine

EngineName = Literal["local", "dask", "slurm", "template"]

NOT_PASSED = ("TOKEN", "TOKEN_FILE", "URL", "DATA_DIR", "CORES", "CATALOGUE")
"""Settings that each pilot gets from us otherwise, or not at all."""
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")
_SOMEBODYS = re.compile(r"://[^/@\s]+@|^[^/@\s]+:[^/@\s]+@")
"""A URL, or what stands for one, with a user's name in it, and a password more often than not."""


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
        Parameter(help="For whom pilots are handed to, as in --option=--time=8:00:00; any number."),
    ] = ()
    template: Annotated[str, Parameter(help="Of a batch system: htcondor, pbs, sge or a file.")] = (
        ""
    )
    scheduler: Annotated[str, Parameter(help="Of Dask: its address, or its file.")] = ""
    cluster: Annotated[str, Parameter(help="Of Dask: what makes one, as module:Class.")] = ""
    resource: Annotated[
        tuple[str, ...], Parameter(help="Of Dask: NAME=NUMBER that a pilot takes of a worker.")
    ] = ()
    command: Annotated[str, Parameter(help="How 'evstream' is called there; default as here.")] = ""
    pilot_token_file: Annotated[
        Path | None, Parameter(help="File with the pilots' token, which they can read.")
    ] = None

    def make(self, group: str, number: int) -> Engine:
        """Return the engine; the number of pilots is that of workers, where it makes them."""
        from evstream.assembly import engines

        self._check()
        if self.engine == "slurm":
            return engines.make_slurm_engine(self.folder, group, self.option)
        if self.engine == "template":
            return engines.make_template_engine(self.folder, group, self.template, self.option)
        if self.engine == "dask":
            place = engines.DaskPlace(
                self.scheduler,
                self.cluster,
                {name: _meant(value) for name, value in _pairs("--option", self.option)},
                {name: _number(value) for name, value in _pairs("--resource", self.resource)},
                number,
            )
            return engines.make_dask_engine(self.folder, group, place)
        return engines.make_local_engine(self.folder, group)

    def _check(self) -> None:
        """Refuse flags that the engine would not look at."""
        of_dask = bool(self.scheduler or self.cluster or self.resource)
        wrong = {
            "--option": self.option and (self.engine == "local" or self.scheduler),
            "--template": bool(self.template) != (self.engine == "template"),
            "--scheduler, --cluster and --resource": of_dask and self.engine != "dask",
        }
        for flags, is_wrong in wrong.items():
            if is_wrong:
                raise RequestError(
                    f"{flags} and --engine {self.engine} do not fit",
                    hint="see 'evstream pilots --help' for what belongs to which engine",
                )

    def words(self) -> list[str]:
        """Return the words that call evstream where pilots are."""
        return shlex.split(self.command) or [sys.executable, "-m", "evstream"]


def _pairs(flag: str, words: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for word in words:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise RequestError(f"{flag} {word!r} is no NAME=VALUE", hint="as in cores=4")
        yield name, value


def _meant(value: str) -> Any:
    """Return a number, a list and so on where it is one in JSON; the text otherwise."""
    try:
        return json.loads(value)
    except ValueError:
        return value


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise RequestError(f"{value!r} is no number", hint="as in --resource pilot=1") from None


def pilot_environment(address: Address, token_file: str) -> dict[str, str]:
    """Return what pilots are told by their environment: our settings, and no secret."""
    passed = {
        name: value
        for name, value in os.environ.items()
        if (name.startswith("EVSTREAM_") and name.removeprefix("EVSTREAM_") not in NOT_PASSED)
        or name.upper() in PROXIES
    }
    # What is a user's own would stand in a script.
    passed = {name: value for name, value in passed.items() if not _SOMEBODYS.search(value)}
    passed["EVSTREAM_URL"] = address.url
    if token_file:
        passed["EVSTREAM_TOKEN_FILE"] = token_file
    if address.ca_file:
        passed["EVSTREAM_CA_FILE"] = str(Path(address.ca_file).absolute())
    return passed
