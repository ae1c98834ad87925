"""``evstream doctor``: what is missing on this machine, and how to get it."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import sqlite3
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from evstream.cli.printing import print_json, print_pairs
from evstream.cli.service import DEFAULT_DOOR, Door, find_service
from evstream.domain.errors import EvstreamError

FREE_BYTES_MIN = 1 << 30


@dataclass(frozen=True)
class Finding:
    """One thing looked at. ``needed`` tells what must be there from what only helps."""

    name: str
    ok: bool
    needed: bool
    finding: str
    remedy: str = ""


def doctor(
    *,
    security: Annotated[
        bool, Parameter(negative="", help="Say instead what is open, to whom and until when.")
    ] = False,
    door: Door = DEFAULT_DOOR,
) -> None:
    """Say what is missing on this machine, what for, and how to get it.

    Exits with 1 if something is missing that evstream cannot do without, or with --security
    if something is open that must not be.

    For example:

        evstream doctor
    """
    if security:
        _tell(_security(door), door, bad="OPEN   ", odd="look at")
        return
    settings = door.settings()
    findings = [
        _python(),
        _sqlite(),
        _folder(Path(settings.data_dir)),
        _program("setpriv", "payloads end with a pilot that is killed", "util-linux"),
        _program("apptainer", "payloads run in containers", "apptainer"),
        _module("XRootD", "root:// URLs", "pip install 'evstream[xrootd]'"),
        _module("obstore", "s3:// URLs", "pip install 'evstream[s3]'"),
        _module("pyarrow", "Parquet files", "pip install 'evstream[parquet]'"),
        _module("h5py", "HDF5 files", "pip install 'evstream[hdf5]'"),
        _module("ROOT", "reading products with ROOT itself", "pip install root==0.1a12"),
        _module(
            "pythia8mc",
            "make demo",
            "pip install --only-binary :all: pythia8mc==8.317.2",
        ),
        _module("matplotlib", "the plot of make demo", "pip install matplotlib"),
    ]
    try:
        address = asyncio.run(find_service(settings, settings.patience_s))
        health = door.ask(lambda service: service.health())
        findings.append(
            Finding(
                "service",
                True,
                False,
                f"version {health.version} at {address.url}, signs with {health.receipt_key}",
            )
        )
    except EvstreamError as error:
        findings.append(Finding("service", False, False, error.message, error.hint))
    _tell(findings, door, bad="MISSING", odd="absent ")


def _tell(findings: list[Finding], door: Door, *, bad: str, odd: str) -> None:
    if door.json:
        print_json(findings)
    else:
        marks = [("ok     " if f.ok else bad if f.needed else odd) for f in findings]
        pairs = zip(marks, findings, strict=True)
        print_pairs([(f"{mark} {finding.name}", _line(finding)) for mark, finding in pairs])
    if any(finding.needed and not finding.ok for finding in findings):
        sys.exit(1)


def _security(door: Door) -> list[Finding]:
    from evstream.cli.security_checks import look

    try:
        keys = door.ask(lambda service: service.keys.all())
    except EvstreamError:
        # None runs, or it does not tell us.
        keys = None
    return look(door.settings(), keys)


def _line(finding: Finding) -> str:
    return finding.finding + (f"; {finding.remedy}" if finding.remedy else "")


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", sys.version_info >= (3, 11), True, version, "")


def _sqlite() -> Finding:
    ok = sqlite3.sqlite_version_info >= (3, 37)
    remedy = "" if ok else "use a Python with SQLite 3.37 or newer"
    return Finding("sqlite", ok, True, sqlite3.sqlite_version, remedy)


def _folder(folder: Path) -> Finding:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if not os.access(existing, os.W_OK):
        return Finding("data", False, True, f"{existing} cannot be written", "choose with --data")
    ok = free >= FREE_BYTES_MIN
    remedy = "" if ok else "make room, or choose another folder with --data"
    return Finding("data", ok, True, f"{folder}, {free / 1e9:.1f} GB free", remedy)


def _program(name: str, purpose: str, package: str) -> Finding:
    path = shutil.which(name)
    remedy = "" if path else f"install the package {package}"
    return Finding(name, path is not None, False, path or f"without it, not: {purpose}", remedy)


def _module(name: str, purpose: str, command: str) -> Finding:
    ok = importlib.util.find_spec(name) is not None
    return Finding(name, ok, False, f"for {purpose}", "" if ok else command)
