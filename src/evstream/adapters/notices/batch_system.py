"""When a batch job ends, by what its batch system left for it."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from pathlib import Path

from evstream.ports.notice import Notice

_FROM_START = re.compile(
    r"^(AllowedExecuteDuration|AllowedJobDuration|MaxRuntime)\s*=\s*(\d+)\s*$", re.MULTILINE
)
_STARTED = re.compile(r"^JobCurrentStartDate\s*=\s*(\d+)\s*$", re.MULTILINE)


class BatchSystem:
    """The `Notices` port on a batch job's end; says nothing where no batch system is found.

    - Slurm: ``SLURM_JOB_END_TIME``, seconds since 1970 ("sbatch", output environment variables).
    - HTCondor: the job's ad, which ``_CONDOR_JOB_AD`` names: ``AllowedExecuteDuration`` and
      ``AllowedJobDuration``, and ``MaxRuntime`` that some sites add, in seconds, all from
      ``JobCurrentStartDate`` ("Job ClassAd Attributes").
    - Machine/job features (HSF-TN-2016-02): ``shutdowntime_job``, ``jobstart_secs`` with
      ``wall_limit_secs`` in ``$JOBFEATURES``, ``shutdowntime`` in ``$MACHINEFEATURES``. These
      may appear, and change, while a job runs; so all is looked at each time.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    async def look(self) -> Notice | None:
        """Return when the job ends, by whoever says the earliest time."""
        end = min(self._slurm(), self._condor(), self._features())
        return None if end == math.inf else Notice(end - time.time(), evicted=False)

    def _slurm(self) -> float:
        return _number(self._environment.get("SLURM_JOB_END_TIME", ""))

    def _condor(self) -> float:
        path = self._environment.get("_CONDOR_JOB_AD", "")
        ad = _read(Path(path)) if path else ""
        started = _STARTED.search(ad)
        limits = [float(seconds) for _, seconds in _FROM_START.findall(ad)]
        return float(started[1]) + min(limits, default=math.inf) if started else math.inf

    def _features(self) -> float:
        ends = []
        if machine := self._environment.get("MACHINEFEATURES", ""):
            ends.append(_number(_read(Path(machine, "shutdowntime"))))
        if job := self._environment.get("JOBFEATURES", ""):
            ends.append(_number(_read(Path(job, "shutdowntime_job"))))
            started = _number(_read(Path(job, "jobstart_secs")))
            ends.append(started + _number(_read(Path(job, "wall_limit_secs"))))
        return min(ends, default=math.inf)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _number(text: str) -> float:
    """Return a number of seconds; `math.inf` for what is none."""
    text = text.strip()
    return float(text) if text.isdecimal() and int(text) > 0 else math.inf
