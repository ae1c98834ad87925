"""The picture: wall time of the skim over that from the local disk, against the round trip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path


def draw(path: Path, title: str, rows: Mapping[str, Sequence[tuple[float, float]]]) -> bool:
    """Draw a line for each row, from (round trip in ms, ratio); returns whether one can."""
    try:
        import matplotlib as mpl
    except ImportError:
        return False
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5))
    for name, points in rows.items():
        ours = name.startswith("evstream")
        style = "-" if ours else "--" if name != "floor" else ":"
        axes.plot(
            *zip(*sorted(points), strict=True), style, marker="o" if ours else ".", label=name
        )
    axes.set_yscale("log")
    axes.set_xlabel("round trip (ms)")
    axes.set_ylabel("wall time / wall time from the local disk (uproot)")
    axes.set_title(title)
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend(fontsize="small", ncols=2)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)
    return True
