"""Products that are not what their plans ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from evstream import rootio
from evstream.domain.dataset import Fingerprint
from evstream.domain.descriptor import slice_of
from evstream.pilot.fitting import fits
from evstream.testing.simulator import sample_files
from evstream.wire.messages import DeliveryPlan

(FILE,) = sample_files(files=1, entries=100).values()
FINGERPRINT = Fingerprint(len(FILE), "", "ab" * 32)


def plan_of(start: int, stop: int, file_format: str = "root") -> DeliveryPlan:
    wanted = slice_of(FINGERPRINT, "Events", (start, stop), None, file_format)
    return DeliveryPlan(wanted.key, wanted.to_wire(), [])


def product(plan: DeliveryPlan, start: int, stop: int) -> bytes:
    """Cut a product as edges do."""
    source = rootio.BytesSource(FILE)
    cut = rootio.plan_cut(
        rootio.inspect(source),
        tree="Events",
        entry_start=start,
        entry_stop=stop,
        identity=bytes.fromhex(plan.key),
    )
    cut.prepare(source)
    return cut.read(0, cut.size, source)


def test_what_was_asked_for_fits(tmp_path: Path) -> None:
    path, plan = tmp_path / "x", plan_of(10, 35)
    path.write_bytes(product(plan, 10, 35))
    assert fits(plan, path)
    # Of other formats nothing is known without reading them.
    assert fits(plan_of(10, 35, "parquet"), path)


@pytest.mark.parametrize("what", ["other events", "half", "longer", "no file of ROOT", "nothing"])
def test_what_was_not_asked_for_does_not(what: str, tmp_path: Path) -> None:
    path, plan, other = tmp_path / "x", plan_of(10, 35), plan_of(35, 60)
    right = product(plan, 10, 35)
    wrong = {
        "other events": product(other, 35, 60),
        "half": right[: len(right) // 2],
        "longer": right + b"x",
        "no file of ROOT": b"x" * len(right),
        "nothing": b"",
    }
    path.write_bytes(wrong[what])
    assert not fits(plan, path)
