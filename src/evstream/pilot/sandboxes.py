"""Sandboxes of payloads: fetched and unpacked once for all units of a pilot."""

from __future__ import annotations

import asyncio
import shutil
import tarfile
from pathlib import Path

from evstream.client import Service
from evstream.domain.errors import ConfigError, DataError
from evstream.pilot.tools import Tools
from evstream.wire.messages import RangeUnit

UNPACKED_BYTES_MAX = 4 << 30
FILES_MAX = 200_000


class Sandboxes:
    """Unpacks each sandbox once, for all units of a pilot."""

    def __init__(self, service: Service, tools: Tools) -> None:
        self._service = service
        self._tools = tools
        self._locks: dict[str, asyncio.Lock] = {}

    async def unpacked(self, work: RangeUnit, directory: Path) -> Path | None:
        """Return the folder with a unit's sandbox, if its payload has one.

        Parameters
        ----------
        directory : Path
            The pilot's own; the folder is in it.

        Raises
        ------
        DataError
            It is not what was registered, or cannot be unpacked safely.
        EvstreamError
            It cannot be fetched.
        """
        sha256 = work.payload.sandbox
        if not sha256:
            return None
        folder = directory / f"sandbox-{sha256}"
        async with self._locks.setdefault(sha256, asyncio.Lock()):
            if not folder.is_dir():
                archive = folder.with_suffix(".tar.gz")
                try:
                    found = await self._service.fetch_output(work.sandbox_url, archive)
                    if found != sha256:
                        raise DataError(
                            f"the sandbox has the sha256 {found}, not {sha256}",
                            hint="check the output store",
                        )
                    await self._tools.offload(lambda: unpack(archive, folder))
                finally:
                    archive.unlink(missing_ok=True)
        return folder


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
