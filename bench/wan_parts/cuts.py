"""A link that is cut for five seconds in every thirty."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.wan_parts.link import Link


@dataclass(slots=True)
class Cuts:
    """How long the link has been cut.

    Attributes
    ----------
    seconds : float
        All together.
    """

    seconds: float = 0.0


@contextmanager
def cutting(link: Link, cut_s: float, every_s: float) -> Iterator[Cuts]:
    """Cut and mend while the context lasts; it is mended at its end."""
    cuts, over = Cuts(), threading.Event()

    def work() -> None:
        while not over.wait(every_s - cut_s):
            link.cut()
            # Until the end of the run, if that comes first.
            over.wait(cut_s)
            link.mend()
            cuts.seconds += cut_s

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield cuts
    finally:
        over.set()
        thread.join()
