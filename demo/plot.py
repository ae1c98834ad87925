"""Draws the dimuon mass spectrum of a merged output.

Run as ``python -m demo.plot MERGED PNG``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import uproot

from demo.collisions import PROCESS_NUMBERS

mpl.use("Agg")
from matplotlib import pyplot as plt

Z_MASS = 91.19
UNCERTAINTY = "statistical uncertainty"
# From the rarest to the commonest, so that each layer of the stack is seen.
LAYERS = (
    ("dijet", "dijets", "#999999"),
    ("ttbar", r"$t\bar{t}$", "#e69f00"),
    ("zmumu", r"$Z/\gamma^*\rightarrow\mu\mu$", "#56b4e9"),
)
SPECTRUM_EDGES = np.linspace(0.0, 150.0, 76)
PEAK_EDGES = np.linspace(76.0, 106.0, 31)


def draw(merged: Path, picture: Path) -> int:
    """Draw the spectrum of the pairs in ``merged`` into ``picture``; return how many there are."""
    with uproot.open(merged) as file:
        events = file["Events"].arrays(["dimuon_mass", "process"], library="np")
    masses, processes = events["dimuon_mass"], events["process"]
    layers = [masses[(masses > 0) & (processes == PROCESS_NUMBERS[key])] for key, _, _ in LAYERS]
    count = sum(len(layer) for layer in layers)
    figure, axes = plt.subplots(figsize=(9, 6), layout="constrained")
    _stack(axes, layers, SPECTRUM_EDGES)
    axes.set_yscale("log")
    axes.set_xlim(0, 150)
    # Room above the peak for the legend, the words and the inset.
    axes.set_ylim(0.5, 300 * max(1, np.histogram(np.concatenate(layers), SPECTRUM_EDGES)[0].max()))
    axes.set_xlabel(r"mass of the hardest $\mu^+\mu^-$ pair [GeV]", fontsize=13)
    axes.set_ylabel("pairs / 2 GeV", fontsize=13)
    axes.set_title("Event ranges streamed, processed and merged by evstream", loc="left")
    _describe(axes, len(masses), count)
    _inset(axes, layers)
    partial = picture.with_name(f".{picture.name}.partial")
    figure.savefig(partial, dpi=150, format="png")
    plt.close(figure)
    partial.replace(picture)
    return count


def _stack(axes: Any, layers: Sequence[npt.NDArray[Any]], edges: npt.NDArray[np.float64]) -> None:
    axes.hist(
        layers,
        bins=edges,
        stacked=True,
        histtype="stepfilled",
        color=[color for _, _, color in LAYERS],
        label=[label for _, label, _ in LAYERS],
    )
    total, _ = np.histogram(np.concatenate(layers), edges)
    filled = total > 0
    centres = (edges[:-1] + edges[1:]) / 2
    axes.errorbar(
        centres[filled],
        total[filled],
        yerr=np.sqrt(total[filled]),
        fmt="none",
        ecolor="black",
        elinewidth=1,
        label=UNCERTAINTY,
    )
    axes.tick_params(direction="in", which="both", top=True, right=True)


def _describe(axes: Any, events: int, pairs: int) -> None:
    handles, labels = axes.get_legend_handles_labels()
    by_label = dict(zip(labels, handles, strict=True))
    # The top of the stack stands on top of the legend, too.
    wanted = [*(label for _, label, _ in reversed(LAYERS)), UNCERTAINTY]
    axes.legend([by_label[label] for label in wanted], wanted, frameon=False, loc="upper right")
    axes.text(
        0.03,
        0.96,
        "Pythia 8, $pp$ at $\\sqrt{s}$ = 13 TeV\n"
        f"{events:,} collisions, {pairs:,} pairs\n"
        "$p_T^{\\mu}$ > 3 GeV, $|\\eta^{\\mu}|$ < 2.4\n"
        r"$Z/\gamma^*$ generated above 40 GeV",
        transform=axes.transAxes,
        va="top",
        linespacing=1.5,
    )


def _inset(axes: Any, layers: Sequence[npt.NDArray[Any]]) -> None:
    inset = axes.inset_axes((0.09, 0.42, 0.36, 0.32))
    _stack(inset, layers, PEAK_EDGES)
    inset.axvline(Z_MASS, color="black", linestyle=":", linewidth=1)
    inset.set_xlim(PEAK_EDGES[0], PEAK_EDGES[-1])
    top = 1.2 * inset.get_ylim()[1]
    inset.set_ylim(0, top)
    inset.text(Z_MASS + 0.5, 0.95 * top, "$m_Z$", va="top", fontsize=10)
    inset.set_title("around the Z, linear, pairs / GeV", fontsize=9)
    inset.tick_params(labelsize=8)


def main() -> int:
    """Draw from the command line."""
    merged, picture = (Path(word) for word in sys.argv[1:])
    print(f"{draw(merged, picture)} pairs drawn")
    return 0


if __name__ == "__main__":
    sys.exit(main())
