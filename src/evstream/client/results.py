"""Results of a task: outputs and receipt, fetched into a folder."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from evstream.client.service import Service
from evstream.domain.errors import ConfigError, ConflictError, DataError, VerificationError
from evstream.wire.receipt_file import read_receipt
from evstream.wire.receipt_signature import check_signature

RECEIPT_NAME = "receipt.json"


async def fetch_results(service: Service, task: int, folder: Path) -> list[Path]:
    """Fetch a task's outputs, then its receipt, into a folder; return the paths.

    A file appears under its name only when it is whole and its digest is right; what
    is there already with the right digest is not fetched again. What an earlier receipt
    of the task lists there, before it was opened again, is replaced, or removed where
    it is no part of the result any more.

    Raises
    ------
    ConflictError
        The task has not ended, or a file of another content has the name of a result.
    ConfigError
        The folder cannot be written.
    """
    view = await service.task(task)
    if not view.state.final:
        raise ConflictError(
            f"task {task} is {view.state.value}",
            hint=f"wait: evstream status {task} --watch",
        )
    receipt = await service.receipt(task)
    urls = {output.name: output.url for output in await service.outputs(task)}
    final = [output for output in receipt["outputs"] if output["merged_into"] is None]
    # Its name alone: a service does not choose where we write.
    wanted = {folder / Path(output["file"]).name: output for output in final}
    outdated = await replaceable(service, task, folder)
    try:
        _make_folder(folder)
        missing = [path for path, output in wanted.items() if not _holds(path, output["sha256"])]
        if not _is_receipt(folder / RECEIPT_NAME, receipt):
            missing.append(folder / RECEIPT_NAME)
        _refuse_others([path for path in missing if path not in outdated])
        for path in missing:
            if path in wanted:
                output = wanted[path]
                await _fetch(service, urls[output["name"]], path, output["sha256"])
        for path in outdated - {*wanted, folder / RECEIPT_NAME}:
            path.unlink()
        # Last: until it is replaced, it shows what else may be.
        if folder / RECEIPT_NAME in missing:
            write_receipt(receipt, folder / RECEIPT_NAME)
    except OSError as error:
        raise ConfigError(
            f"cannot write to {folder}: {error.strerror}",
            hint="make room or choose another",
        ) from error
    return [*wanted, folder / RECEIPT_NAME]


async def replaceable(service: Service, task: int, folder: Path) -> set[Path]:
    """Return the files of a folder that an earlier receipt of a task lists, and it itself.

    The service signed it, and the files are as it lists them: nobody has changed them, and
    they can be made again from the task, or are no part of its result any more.
    """
    path = folder / RECEIPT_NAME
    try:
        receipt = read_receipt(path.read_bytes())
        check_signature(receipt, (await service.health()).receipt_key)
    except (OSError, VerificationError):
        return set()
    if receipt["task"].get("id") != task:
        return set()
    listed = {
        folder / Path(output["file"]).name: output["sha256"]
        for output in receipt["outputs"]
        if output["merged_into"] is None
    }
    return {path, *(file for file, sha256 in listed.items() if _holds(file, sha256))}


def _refuse_others(paths: list[Path]) -> None:
    """Refuse to replace files: what the task wrote has the right content already."""
    for path in paths:
        if os.path.lexists(path):
            raise ConflictError(
                f"{path} is there and is not what this task made",
                hint="move it away, or choose another folder",
            )


def _is_receipt(path: Path, receipt: dict[str, Any]) -> bool:
    try:
        return bool(json.loads(path.read_bytes()) == receipt)
    except (OSError, ValueError):
        return False


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, if they are not there."""
    folder.mkdir(parents=True, exist_ok=True)


async def _fetch(service: Service, url: str, path: Path, sha256: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        if await service.fetch_output(url, partial) != sha256:
            raise DataError(f"{path.name} arrived with other content than was committed")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _holds(path: Path, sha256: str) -> bool:
    return path.is_file() and digest_of(path) == sha256


def digest_of(path: Path) -> str:
    """Return a file's sha256, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_receipt(receipt: dict[str, Any], path: Path) -> Path:
    """Write a receipt whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(receipt, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
    return path
