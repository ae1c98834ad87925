"""What payloads need beside their input: there once for all units of a pilot."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import tarfile
from pathlib import Path

from evstream.client import Service
from evstream.domain.errors import ConfigError, DataError
from evstream.domain.payload import Payload, StagedFile
from evstream.pilot.tools import Tools
from evstream.ports import SourceOpener

UNPACKED_BYTES_MAX = 4 << 30
FILES_MAX = 200_000
PIECE_BYTES = 8 << 20


class Staging:
    """Unpacks sandboxes and copies files, each once, into folders beside those of units."""

    def __init__(self, service: Service, tools: Tools) -> None:
        self._service = service
        self._tools = tools
        self._locks: dict[Path, asyncio.Lock] = {}

    async def stage(self, payload: Payload, sandbox_url: str, directory: Path) -> dict[str, str]:
        """Return what ``{sandbox}`` and ``{files}`` stand for, where a payload has them.

        Parameters
        ----------
        directory : Path
            The pilot's own; the folders are in it.

        Raises
        ------
        DataError
            Something is not what was registered, or cannot be unpacked safely.
        EvstreamError
            It cannot be fetched.
        """
        staged = {}
        if payload.sandbox:
            folder = directory / f"sandbox-{payload.sandbox}"
            async with self._lock(folder):
                if not folder.is_dir():
                    await self._unpack(payload.sandbox, sandbox_url, folder)
            staged["sandbox"] = str(folder)
        if payload.files:
            named = "\n".join(f"{file.name} {file.sha256}" for file in payload.files)
            folder = directory / f"files-{hashlib.sha256(named.encode()).hexdigest()}"
            async with self._lock(folder):
                if not folder.is_dir():
                    opener = self._tools.opener
                    await self._tools.offload(lambda: copy(payload.files, opener, folder))
            staged["files"] = str(folder)
        return staged

    def _lock(self, folder: Path) -> asyncio.Lock:
        return self._locks.setdefault(folder, asyncio.Lock())

    async def _unpack(self, sha256: str, url: str, folder: Path) -> None:
        archive = folder.with_suffix(".tar.gz")
        try:
            found = await self._service.fetch_output(url, archive)
            if found != sha256:
                raise DataError(
                    f"the sandbox has the sha256 {found}, not {sha256}",
                    hint="check the output store",
                )
            await self._tools.offload(lambda: unpack(archive, folder))
        finally:
            archive.unlink(missing_ok=True)


def copy(files: tuple[StagedFile, ...], opener: SourceOpener, folder: Path) -> None:
    """Copy files into a folder that is there whole or not at all. Blocking.

    Raises
    ------
    DataError
        One has another digest.
    EvstreamError
        One cannot be read.
    """
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        for file in files:
            digest = hashlib.sha256()
            with opener.open(file.pfn) as source, (partial / file.name).open("wb") as target:
                for offset in range(0, source.size, PIECE_BYTES):
                    size = min(PIECE_BYTES, source.size - offset)
                    (piece,) = source.read_ranges([(offset, size)])
                    digest.update(piece)
                    target.write(piece)
            if digest.hexdigest() != file.sha256:
                raise DataError(
                    f"{file.name} has the sha256 {digest.hexdigest()}, not {file.sha256}",
                    hint="the file has changed: submit a task with its new digest",
                    name=file.name,
                )
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    partial.rename(folder)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive into a folder that is there whole or not at all. Blocking.

    Raises
    ------
    DataError
        It is no archive, too large, or would write or point outside of the folder.
    """
    if not hasattr(tarfile, "data_filter"):
        raise ConfigError(
            "this Python cannot unpack archives safely", hint="use Python 3.11.4 or newer"
        )
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        with tarfile.open(archive, "r:*") as tar:
            files, size = 0, 0
            for member in tar:
                files, size = files + 1, size + member.size
                if files > FILES_MAX or size > UNPACKED_BYTES_MAX:
                    raise DataError(
                        "the sandbox is too large",
                        hint=f"keep it to {FILES_MAX} files and {UNPACKED_BYTES_MAX} bytes",
                    )
                # Refuses absolute names, ways out, and links that lead out.
                tar.extract(member, partial, filter="data")
    except (tarfile.TarError, EOFError, ValueError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise DataError(
            f"the sandbox cannot be unpacked: {error}", hint="pack it anew, by naming the folder"
        ) from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    partial.rename(folder)
