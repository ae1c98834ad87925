"""Do with Python what peers.C does with ROOT: one request a line, one answer.

    python -m bench.rootio_parts.worker evstream|uproot

The answer is "@@", wall seconds, CPU seconds, entries, as that of peers.C.

    cut            SOURCE TREE START STOP OUT   evstream, nothing known before
    cut_indexed    SOURCE TREE START STOP OUT   evstream, the index at hand
    select         SOURCE TREE MASK OUT         evstream, a mask of one byte an entry
    join           OUT SOURCE SOURCE ...        evstream, nothing known before
    join_indexed   OUT SOURCE SOURCE ...        evstream, the indices at hand
    uproot         SOURCE TREE START STOP OUT   uproot, read and write
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.rootio_parts.peers import Cost, timed

Work = Callable[[], int]


def evstream_work(words: Sequence[str]) -> Work:
    """Return what a request asks of evstream; what need not be timed is done."""
    import numpy as np

    from evstream import rootio

    what, *rest = words
    if what == "cut":
        source, tree, start, stop, out = rest
        return lambda: rootio.cut(
            source, out, tree=tree, entry_start=int(start), entry_stop=int(stop)
        )
    if what == "cut_indexed":
        source, tree, start, stop, out = rest
        with rootio.FileSource(source) as opened:
            index = rootio.inspect(opened)
        return lambda: write_cut(index, source, tree, (int(start), int(stop)), out)
    if what == "select":
        source, tree, mask, out = rest
        chosen = np.flatnonzero(np.fromfile(mask, np.bool_))
        return lambda: rootio.cut(source, out, tree=tree, entries=chosen)
    out, *sources = rest
    indices = None
    if what == "join_indexed":
        indices = []
        for one in sources:
            with rootio.FileSource(one) as opened:
                indices.append(rootio.inspect(opened))
    return lambda: sum(rootio.join(sources, out, indices=indices).entries.values())


def write_cut(index: object, source: str, tree: str, entries: tuple[int, int], out: str) -> int:
    """Cut with the index at hand, as a service does."""
    from evstream import rootio

    assert isinstance(index, rootio.SourceIndex)
    buffer = memoryview(bytearray(4 << 20))
    with rootio.FileSource(source) as opened, Path(out).open("wb") as file:
        cut = rootio.plan_cut(index, tree=tree, entry_start=entries[0], entry_stop=entries[1])
        cut.prepare(opened)
        for offset in range(0, cut.size, len(buffer)):
            file.write(cut.read_into(offset, buffer, opened))
    return cut.entries


def uproot_work(words: Sequence[str]) -> Work:
    """Return what a request asks of uproot."""
    from bench.rootio_parts.uproot_peer import rewrite

    _, source, tree, start, stop, out = words
    return lambda: rewrite(Path(source), tree, int(start), int(stop), Path(out))


def main() -> None:
    """Answer until the input ends."""
    work_of = {"evstream": evstream_work, "uproot": uproot_work}[sys.argv[1]]
    if sys.argv[1] == "evstream":
        pass
    else:
        import bench.rootio_parts.uproot_peer  # noqa: F401 - loaded before the clock runs
    print("@@ ready", flush=True)
    for line in sys.stdin:
        work = work_of(line.rstrip("\n").split("\t"))
        entries: list[int] = []

        def run(work: Work = work, entries: list[int] = entries) -> None:
            entries.append(work())

        cost: Cost = timed(run)
        print(f"@@ {cost.wall_s} {cost.cpu_s} {entries[0]}", flush=True)


if __name__ == "__main__":
    main()
