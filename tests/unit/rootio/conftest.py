"""Small files to cut, made by uproot."""

from __future__ import annotations

from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

ENTRIES = 500
SEED = 7


@pytest.fixture(scope="session")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with a flat and a jagged tree in several baskets, one in a directory."""
    path = tmp_path_factory.mktemp("small") / "small.root"
    rng = np.random.default_rng(SEED)
    with uproot.recreate(path, compression=uproot.ZLIB(1)) as file:
        for name in ("Events", "deep/er/other"):
            file.mktree(name, {"x": "f8", "i": "i4", "fixed": ("f4", (3,)), "jet": "var * float32"})
            for start in range(0, ENTRIES, 110):
                count = min(110, ENTRIES - start)
                sizes = rng.integers(0, 6, count)
                file[name].extend(
                    {
                        "x": rng.normal(size=count),
                        "i": np.arange(start, start + count, dtype=np.int32),
                        "fixed": rng.normal(size=(count, 3)).astype(np.float32),
                        "njet": sizes.astype(np.int32),
                        "jet": ak.unflatten(
                            rng.normal(size=int(sizes.sum())).astype(np.float32), sizes
                        ),
                    }
                )
        file["histogram"] = np.histogram(rng.normal(size=1000))
    return path


@pytest.fixture(scope="session")
def small_bytes(small_file: Path) -> bytes:
    """Return the same file's bytes."""
    return small_file.read_bytes()


@pytest.fixture(scope="session")
def plain_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return a small file without any compression."""
    path = tmp_path_factory.mktemp("plain") / "plain.root"
    with uproot.recreate(path, compression=None) as file:
        file.mktree("Events", {"x": "f8", "jet": "var * float32"})
        for _ in range(3):
            sizes = np.array([0, 1, 2, 3])
            jets = ak.unflatten(np.arange(6, dtype=np.float32), sizes)
            file["Events"].extend({"x": np.zeros(4), "njet": sizes.astype("i4"), "jet": jets})
    return path.read_bytes()
