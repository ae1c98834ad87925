"""The contract of file formats, on every adapter, each judged by a library of its own."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path

import pytest
import uproot

from evstream.adapters.formats import KnownFormats
from evstream.ports import Format
from evstream.testing.contracts import FormatContract

FORMATS = KnownFormats()


class TestRoot(FormatContract):
    @pytest.fixture
    def file_format(self) -> Format:
        return FORMATS.named("root")

    @pytest.fixture
    def path(self, shared_data: Path) -> Path:
        return shared_data / "uproot-HZZ-zstd.root"

    @pytest.fixture
    def tree(self) -> str:
        return "events"

    def events(self, path: Path) -> list[object]:
        with uproot.open(path) as file:
            return list(file["events"].arrays(["NMuon", "Muon_Px", "MET_px"]).to_list())


class _Lhe(FormatContract):
    @pytest.fixture
    def tree(self) -> str:
        return "events"

    def events(self, path: Path) -> list[object]:
        pylhe = pytest.importorskip("pylhe")
        file = pylhe.LHEFile.fromfile(str(path))
        return [event.tolhe() for event in file.events]


class TestLhe(_Lhe):
    whole_join = True

    @pytest.fixture
    def file_format(self) -> Format:
        return FORMATS.named("lhe")

    @pytest.fixture(
        params=["pylhe-testfile-pythia-6.413-ttbar.lhe", "pylhe-testfile-powheg-box-v2-Z.lhe"]
    )
    def path(self, shared_data: Path, request: pytest.FixtureRequest) -> Path:
        return shared_data / str(request.param)


class TestGzippedLhe(_Lhe):
    @pytest.fixture
    def file_format(self) -> Format:
        return FORMATS.named("lhe.gz")

    @pytest.fixture
    def path(self, shared_data: Path) -> Path:
        return shared_data / "pylhe-testfile-madgraph-2.2.1-Z-mlm.lhe.gz"


class _Hepmc(FormatContract):
    @pytest.fixture
    def tree(self) -> str:
        return "events"

    def events(self, path: Path) -> list[object]:
        pyhepmc = pytest.importorskip("pyhepmc")
        with pyhepmc.open(path) as file:
            return [_plain(event) for event in file]


def _plain(event: object) -> bytes:
    pyhepmc = pytest.importorskip("pyhepmc")
    assert isinstance(event, pyhepmc.GenEvent)
    return pickle.dumps(
        (
            event.event_number,
            list(event.weights),
            str(event.momentum_unit),
            [(p.pid, p.status, tuple(p.momentum), p.generated_mass) for p in event.particles],
            [tuple(v.position) for v in event.vertices],
        )
    )


class TestHepmc3(_Hepmc):
    whole_join = True

    @pytest.fixture
    def file_format(self) -> Format:
        return FORMATS.named("hepmc")

    @pytest.fixture
    def path(self, shared_data: Path) -> Path:
        return shared_data / "ttbarsplit-12evt-1108prim.hepmc3"


class TestHepmc2(_Hepmc):
    whole_join = True

    @pytest.fixture
    def file_format(self) -> Format:
        return FORMATS.named("hepmc")

    @pytest.fixture
    def path(self, shared_data: Path) -> Path:
        return shared_data / "inputThreads1.hepmc"


class TestGzippedHepmc(_Hepmc):
    @pytest.fixture
    def file_format(self) -> Format:
        return FORMATS.named("hepmc.gz")

    @pytest.fixture
    def path(self, shared_data: Path, tmp_path: Path) -> Path:
        packed = tmp_path / "in.hepmc.gz"
        packed.write_bytes(gzip.compress((shared_data / "inputThreads1.hepmc").read_bytes()))
        return packed
