"""Sandboxes: packed alike for alike code, unpacked safely."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from evstream.client.sandbox import pack_sandbox
from evstream.domain.errors import DataError, NotFoundError, RequestError
from evstream.pilot import sandboxes
from evstream.pilot.sandboxes import unpack


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
    monkeypatch.setattr(sandboxes, "UNPACKED_BYTES_MAX", 1000)
    archive = _archive(tmp_path / "a.tar.gz", *(_member(str(n), size=300) for n in range(4)))
    with pytest.raises(DataError, match="too large"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"not an archive", b"\x1f\x8b\x08\x00broken"])
def test_what_is_no_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(content)
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out")
