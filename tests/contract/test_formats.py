"""The contract of file formats, on every adapter, each judged by a library of its own."""

from __future__ import annotations

import gzip
import pickle
from collections.abc import Iterator
from pathlib import Path

import awkward as ak
import h5py
import numpy as np
import pytest
import uproot

from evstream.adapters.formats import KnownFormats, RootMakers
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

    no_numbers = ("MET_px",)

    def numbers(self, path: Path) -> dict[str, list[int]]:
        with uproot.open(path) as file:
            arrays = file["events"].arrays(["NMuon", "NJet"])
            return {name: arrays[name].to_list() for name in ("NMuon", "NJet")}


@pytest.fixture(scope="module")
def makers() -> Iterator[RootMakers]:
    """Processes that all tests here share."""
    makers = RootMakers(2)
    yield makers
    makers.close()


class TestRootByMakers(TestRoot):
    """The same, prepared by other processes."""

    @pytest.fixture
    def file_format(self, makers: RootMakers) -> Format:
        return KnownFormats(makers).named("root")


class TestNtuple(TestRoot):
    """The same on an RNTuple."""

    no_numbers = ("x", "jets")

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        numbers = np.arange(40)
        with uproot.recreate(tmp_path / "in.root") as file:
            columns = {"run": numbers // 7, "event": numbers.astype(np.uint64), "x": numbers * 0.5}
            jets = ak.unflatten(np.arange(np.sum(numbers % 3)), numbers % 3)
            file.mkrntuple("events", ak.zip({**columns, "jets": jets}, depth_limit=1))
        return tmp_path / "in.root"

    def events(self, path: Path) -> list[object]:
        with uproot.open(path) as file:
            return list(file["events"].arrays().to_list())

    def numbers(self, path: Path) -> dict[str, list[int]]:
        with uproot.open(path) as file:
            arrays = file["events"].arrays()
            return {name: arrays[name].to_list() for name in ("run", "event")}


class TestNtupleByMakers(TestNtuple, TestRootByMakers):
    """The same, prepared by other processes."""


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

    def numbers(self, path: Path) -> dict[str, list[int]]:
        pyhepmc = pytest.importorskip("pyhepmc")
        with pyhepmc.open(path) as file:
            return {"event_number": [event.event_number for event in file]}


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


class TestParquet(FormatContract):
    @pytest.fixture
    def file_format(self) -> Format:
        return FORMATS.named("parquet")

    @pytest.fixture
    def path(self, shared_data: Path) -> Path:
        return shared_data / "nano_dy.parquet"

    @pytest.fixture
    def tree(self) -> str:
        return "events"

    def events(self, path: Path) -> list[object]:
        columns = ["run", "event", "Muon_pt", "Jet_eta", "HLT_IsoMu24"]
        return list(ak.from_parquet(path, columns=columns).to_list())

    no_numbers = ("MET_pt", "Muon_pt")

    def numbers(self, path: Path) -> dict[str, list[int]]:
        arrays = ak.from_parquet(path, columns=["run", "luminosityBlock", "event"])
        return {name: arrays[name].to_list() for name in arrays.fields}


class TestHdf5(FormatContract):
    @pytest.fixture
    def file_format(self) -> Format:
        return FORMATS.named("hdf5")

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return write_hdf5(tmp_path / "in.h5", 50)

    @pytest.fixture
    def tree(self) -> str:
        return "events"

    no_numbers = ("jet_pt", "inner/met")

    def numbers(self, path: Path) -> dict[str, list[int]]:
        with h5py.File(path) as file:
            return {"run": file["events/run"][()].tolist()}

    def events(self, path: Path) -> list[object]:
        with h5py.File(path) as file:
            group = file["events"]
            ends = group["jet_pt_offsets"][()]
            assert ends[0] == 0
            assert ends[-1] == len(group["jet_pt"])
            return [
                (
                    int(group["run"][i]),
                    group["name"][i],
                    str(group["particle"][i]),
                    group["image"][i].tolist(),
                    group["hits"][i].tolist(),
                    group["inner/met"][i].tolist(),
                    group["jet_pt"][ends[i] : ends[i + 1]].tolist(),
                )
                for i in range(len(group["run"]))
            ]


def write_hdf5(path: Path, entries: int) -> Path:
    """Write a file with a dataset of each kind that events come in."""
    numbers = np.arange(entries)
    with h5py.File(path, "w", track_order=True) as file:
        file.attrs["generator"] = "test"
        group = file.create_group("events")
        group.attrs["units"] = np.array(["GeV", "mm"], h5py.string_dtype())
        group.create_dataset("run", data=numbers.astype(">u4"), chunks=(7,), compression="gzip")
        names = [f"event {n}" for n in numbers]
        group.create_dataset("name", data=names, dtype=h5py.string_dtype())
        kind = np.dtype([("id", "i2"), ("p4", "f8", (4,)), ("ok", "?")])
        particles = np.zeros(entries, kind)
        particles["id"], particles["ok"] = numbers, numbers % 2
        group.create_dataset("particle", data=particles, shuffle=True, chunks=True)
        images = numbers[:, None, None] * np.ones((1, 3, 2), "f4")
        image = group.create_dataset("image", data=images, maxshape=(None, 3, 2), compression="lzf")
        image.attrs["scale"] = np.float32(0.5)
        hits = group.create_dataset("hits", (entries,), h5py.vlen_dtype(np.int32))
        for n in range(entries):
            hits[n] = np.arange(n % 4)
        group.create_dataset("inner/met", data=numbers * 0.5, fletcher32=True, chunks=(16,))
        ends = np.concatenate([[0], np.cumsum(numbers % 3)])
        group.create_dataset("jet_pt", data=np.arange(ends[-1]) * 1.5, chunks=(5,))
        group.create_dataset("jet_pt_offsets", data=ends.astype(np.uint16))
        group.create_dataset("luminosity", data=139.0)
        group.create_dataset("state", data=h5py.Empty("f4"))
    return path
