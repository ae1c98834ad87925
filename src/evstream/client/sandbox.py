"""Sandboxes: a folder with a payload's code, packed so that the same files are the same bytes."""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import tempfile
from pathlib import Path

import msgspec

from evstream.client.service import Service
from evstream.domain.errors import AccessError, NotFoundError, RequestError
from evstream.wire.messages import NewTask

LEFT_OUT = ("__pycache__", ".git", ".venv", ".evstream")
PIECE_BYTES = 1 << 20


def pack_sandbox(source: Path, archive: Path) -> str:
    """Pack a folder into an archive, or copy one that is packed; return its sha256.

    Names, contents, modes of execution and links are kept; times and owners are not, so
    that the digest is that of the code.

    Parameters
    ----------
    source : Path
        A folder, or a .tar.gz file.

    Raises
    ------
    NotFoundError, AccessError
    RequestError
        It is neither.
    """
    try:
        if source.is_dir():
            _pack(source, archive)
        elif source.name.endswith((".tar.gz", ".tgz")):
            archive.write_bytes(source.read_bytes())
        elif source.exists():
            raise RequestError(
                f"{source} is no sandbox", hint="name a folder, or an archive in .tar.gz"
            )
        else:
            raise NotFoundError(f"there is no sandbox {source}", hint="name a folder")
        with archive.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except PermissionError as error:
        raise AccessError(f"{error.filename} may not be read: {error.strerror}") from error


async def send_sandbox(service: Service, task: NewTask, source: str) -> NewTask:
    """Pack a sandbox, send it to a service, and return the task that is to use it.

    Parameters
    ----------
    source : str
        A folder, or a .tar.gz file; empty if the task has no sandbox.

    Raises
    ------
    EvstreamError
        It cannot be packed or sent.
    """
    if not source:
        return task
    with tempfile.TemporaryDirectory(prefix="evstream-sandbox-") as folder:
        archive = Path(folder) / "sandbox.tar.gz"
        sha256 = pack_sandbox(Path(source), archive)
        await service.upload_sandbox(archive, sha256)
    payload = msgspec.structs.replace(task.payload, sandbox=sha256)
    return msgspec.structs.replace(task, payload=payload)


def _pack(folder: Path, archive: Path) -> None:
    with (
        archive.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in sorted(folder.rglob("*")):
            inside = path.relative_to(folder)
            if any(part in LEFT_OUT for part in inside.parts):
                continue
            info = tar.gettarinfo(path, inside.as_posix())
            if not (info.isfile() or info.isdir() or info.issym()):
                continue  # Sockets and pipes hold nothing.
            info.mtime, info.uid, info.gid, info.uname, info.gname = 0, 0, 0, "", ""
            info.mode = 0o755 if info.isdir() or info.mode & 0o100 else 0o644
            if info.isfile():
                with path.open("rb") as file:
                    tar.addfile(info, file)
            else:
                tar.addfile(info)
