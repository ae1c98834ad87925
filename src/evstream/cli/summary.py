"""The table at the end of a job, from its receipt."""

from __future__ import annotations

from typing import Any

from evstream.cli.printing import size_text


def summarize(receipt: dict[str, Any], wall_s: float, workers: int) -> dict[str, Any]:
    """Return what a job took, by name.

    Parameters
    ----------
    wall_s : float
        Seconds from the first claim that could be made to the end.

    Returns
    -------
    dict
        Lost CPU is what failed and killed attempts had spent, as far as they last told.
        CPU efficiency is the payloads' useful CPU over wall time and workers.
    """
    counts = receipt["counts"]
    delivered, source = counts["bytes_delivered"], counts["bytes_of_source"]
    return {
        "events": counts["events"],
        "events committed": counts["committed"],
        "events set aside": counts["set_aside"],
        "ranges": counts["ranges"],
        "ranges committed": counts["ranges_committed"],
        "attempts": counts["attempts"],
        "failed attempts": counts["failed_attempts"],
        "CPU seconds": round(counts["cpu_s"], 1),
        "lost CPU seconds": round(counts["lost_cpu_s"], 1),
        "bytes delivered": size_text(delivered),
        "bytes of the source": size_text(source),
        "delivered / source": f"{delivered / source:.0%}" if source else "-",
        "wall seconds": round(wall_s, 1),
        "CPU efficiency": f"{counts['cpu_s'] / (wall_s * workers):.0%}" if wall_s else "-",
    }
