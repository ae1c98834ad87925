"""What payloads need beside their input: packed alike, unpacked safely, copied whole."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from evstream.adapters.source.fsspec import FsspecOpener
from evstream.client.sandbox import pack_sandbox
from evstream.domain.errors import DataError, NotFoundError, RequestError
from evstream.domain.payload import Payload, StagedFile
from evstream.pilot import staging
from evstream.pilot.staging import copy, unpack


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    (folder / "package" / "__pycache__").mkdir(parents=True)
    (folder / "package" / "__pycache__" / "x.pyc").write_bytes(b"left out")
    (folder / "package" / "analysis.py").write_text("CUT = 5\n")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o700)
    (folder / "link").symlink_to("run.sh")
    return folder


def test_a_folder_comes_out_as_it_went_in(code: Path, tmp_path: Path) -> None:
    pack_sandbox(code, tmp_path / "a.tar.gz")
    unpack(tmp_path / "a.tar.gz", tmp_path / "out")
    names = sorted(
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*")
    )
    assert names == ["link", "package", "package/analysis.py", "run.sh"]
    assert (tmp_path / "out" / "package" / "analysis.py").read_text() == "CUT = 5\n"
    assert (tmp_path / "out" / "run.sh").stat().st_mode & 0o100
    assert (tmp_path / "out" / "link").readlink() == Path("run.sh")


def test_the_same_code_has_the_same_digest_whenever_it_was_written(
    code: Path, tmp_path: Path
) -> None:
    first = pack_sandbox(code, tmp_path / "a.tar.gz")
    text = (code / "package" / "analysis.py").read_text()
    (code / "package" / "analysis.py").unlink()
    (code / "package" / "analysis.py").write_text(text)
    (code / "package" / "analysis.py").chmod(0o600)
    assert pack_sandbox(code, tmp_path / "b.tar.gz") == first
    assert pack_sandbox(tmp_path / "a.tar.gz", tmp_path / "c.tar.gz") == first
    (code / "package" / "analysis.py").write_text("CUT = 6\n")
    assert pack_sandbox(code, tmp_path / "d.tar.gz") != first


def test_what_is_no_sandbox_is_refused(code: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        pack_sandbox(tmp_path / "none", tmp_path / "a.tar.gz")
    with pytest.raises(RequestError, match="no sandbox"):
        pack_sandbox(code / "run.sh", tmp_path / "a.tar.gz")


def _archive(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(bytes(member.size)))
    return path


def _member(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


@pytest.mark.parametrize(
    "member",
    [
        _member("../outside"),
        _member("a/../../outside"),
        _member("link", tarfile.SYMTYPE, "/etc/passwd"),
        _member("link", tarfile.SYMTYPE, "../../outside"),
        _member("link", tarfile.LNKTYPE, "../outside"),
        _member("device", tarfile.CHRTYPE),
        _member("pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda member: f"{member.name} {member.linkname}",
)
def test_what_leads_out_of_it_is_refused(member: tarfile.TarInfo, tmp_path: Path) -> None:
    archive = _archive(tmp_path / "a.tar.gz", _member("good"), member)
    with pytest.raises(DataError, match="unpacked"):
        unpack(archive, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz"]


def test_an_absolute_name_stays_inside(tmp_path: Path) -> None:
    unpack(_archive(tmp_path / "a.tar.gz", _member("/etc/evstream-test")), tmp_path / "out")
    assert (tmp_path / "out" / "etc" / "evstream-test").exists()


def test_one_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "UNPACKED_BYTES_MAX", 1000)
    archive = _archive(tmp_path / "a.tar.gz", *(_member(str(n), size=300) for n in range(4)))
    with pytest.raises(DataError, match="too large"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"not an archive", b"\x1f\x8b\x08\x00broken"])
def test_what_is_no_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(content)
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out")


def test_files_are_copied_and_their_digest_is_checked(tmp_path: Path) -> None:
    source = tmp_path / "geometry.db"
    source.write_bytes(b"walls" * 100)
    sha256 = hashlib.sha256(b"walls" * 100).hexdigest()
    copy((StagedFile("g.db", str(source), sha256),), FsspecOpener(), tmp_path / "files")
    assert (tmp_path / "files" / "g.db").read_bytes() == source.read_bytes()
    with pytest.raises(DataError, match=r"g\.db has the sha256"):
        copy((StagedFile("g.db", str(source), "0" * 64),), FsspecOpener(), tmp_path / "others")
    none = StagedFile("g.db", str(tmp_path / "none"), sha256)
    with pytest.raises(NotFoundError):
        copy((none,), FsspecOpener(), tmp_path / "others")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["files", "geometry.db"]


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ((StagedFile("../x", "/x", "0" * 64),), "cannot name"),
        ((StagedFile("", "/x", "0" * 64),), "cannot name"),
        ((StagedFile("x", "/x", "abc"),), "no sha256"),
        ((StagedFile("x", "x", "0" * 64),), "absolute path"),
        ((StagedFile("x", "/x", "0" * 64), StagedFile("x", "/y", "0" * 64)), "one name"),
    ],
)
def test_files_that_cannot_be_are_refused(files: tuple[StagedFile, ...], told: str) -> None:
    with pytest.raises(RequestError, match=told):
        Payload("cp {input} {output}", files=files).check()
