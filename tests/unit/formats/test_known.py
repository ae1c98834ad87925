"""The list of formats, and what is said where a library is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from evstream.adapters.formats import KnownFormats
from evstream.domain.errors import ConfigError, RequestError
from evstream.domain.streams import MERGEABLE_SUFFIXES
from evstream.rootio import BytesSource

FORMATS = KnownFormats()
NAMES = ["root", "parquet", "hdf5", "lhe", "lhe.gz", "hepmc", "hepmc.gz"]


def test_every_format_can_be_merged_by_its_suffixes() -> None:
    suffixes = {suffix for name in NAMES for suffix in FORMATS.named(name).suffixes}
    assert set(MERGEABLE_SUFFIXES) == suffixes


def test_formats_are_found_by_name_and_by_file_name() -> None:
    for name in NAMES:
        for suffix in FORMATS.named(name).suffixes:
            found = FORMATS.of_file_name(f"some.file{suffix}")
            assert found is not None
            assert found.name == name
    assert FORMATS.of_file_name("notes.txt") is None
    with pytest.raises(RequestError, match="choose among root, parquet"):
        FORMATS.named("slcio")


@pytest.mark.parametrize(
    ("name", "module", "head"),
    [("parquet", "pyarrow", b"PAR1" + bytes(100)), ("hdf5", "h5py", b"\x89HDF\r\n\x1a\n")],
)
def test_a_missing_library_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, name: str, module: str, head: bytes
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=module) as caught:
        FORMATS.inspect(BytesSource(head), "a.file")
    assert f"evstream[{name}]" in caught.value.hint


def test_libraries_are_loaded_when_a_file_needs_them(shared_data: Path) -> None:
    program = """
import sys
from evstream.adapters.formats import KnownFormats
from evstream.rootio import FileSource
with FileSource(sys.argv[1]) as source:
    KnownFormats().inspect(source)
print([name for name in ("pyarrow", "h5py", "uproot", "awkward") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(shared_data / "uproot-Zmumu.root")],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert done.stdout == "[]\n"
