"""Do with Python what peers.C does with ROOT: one request a line, one answer.

    python -m bench.rootio_parts.worker evstream|uproot

The answer is "@@", wall seconds, CPU seconds, entries, as that of peers.C; as there, a
child answers after "fork", until "end".

    cut            SOURCE TREE START STOP OUT   evstream, nothing known before
    cut_indexed    SOURCE TREE START STOP OUT   evstream, the index at hand
    select         SOURCE TREE MASK OUT         evstream, a mask of one byte an entry
    join           OUT SOURCE SOURCE ...        evstream, nothing known before
    join_indexed   OUT SOURCE SOURCE ...        evstream, the indices at hand
    uproot         SOURCE TREE START STOP OUT   uproot, read and write
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.rootio_parts.peers import timed

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
    import numpy as np

    from evstream import rootio

    assert isinstance(index, rootio.SourceIndex)
    buffer = np.empty(4 << 20, np.uint8).data
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


def answer(work: Work) -> None:
    """Do some work, and say what it cost."""
    entries: list[int] = []
    cost = timed(lambda: entries.append(work()))
    print(f"@@ {cost.wall_s} {cost.cpu_s} {entries[0]}", flush=True)


def serve(work_of: Callable[[Sequence[str]], Work]) -> None:
    """Answer requests until there is an end; have children answer after a "fork"."""
    print("@@ ready", flush=True)
    # Nothing is read ahead: whoever asks waits for the answer.
    while (line := sys.stdin.readline().rstrip("\n")) not in ("end", ""):
        if line != "fork":
            answer(work_of(line.split("\t")))
            continue
        child = os.fork()
        if child == 0:
            serve(work_of)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(f"@@ ended {status}", flush=True)


def main() -> None:
    """Answer until the input ends."""
    # Loaded before the clock runs.
    if sys.argv[1] == "evstream":
        import numpy as np  # noqa: F401

        import evstream.rootio  # noqa: F401

        work_of = evstream_work
    else:
        import bench.rootio_parts.uproot_peer  # noqa: F401

        work_of = uproot_work
    serve(work_of)


if __name__ == "__main__":
    main()
