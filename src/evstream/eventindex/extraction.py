"""Extraction: reading the numbers of files' events, in several processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from evstream.client.event_numbers import EVENT_NUMBERS, Names, Numbered, find_numbered, local_path
from evstream.domain.errors import DataError, EvstreamError, RequestError, SourceChangedError
from evstream.domain.names import without_secrets
from evstream.eventindex import pool
from evstream.eventindex.manifest import Indexed, IndexedFile
from evstream.eventindex.rows import NO_LUMI, Array
from evstream.ports import ByteSource, FileIndex, Format, Formats, SourceOpener

FILES_PER_PROCESS = 4
"""Fewer files are read as fast by one process less: it takes a second to start."""
_WAITING_PER_PROCESS = 4
_COPY_BYTES = 8 << 20
_RUN_MAX = NO_LUMI - 1


@dataclass(frozen=True, slots=True)
class Readers:
    """What files are read with."""

    formats: Formats
    opener: SourceOpener


@dataclass(frozen=True, slots=True)
class WantedFile:
    """A file whose events are to be indexed.

    Attributes
    ----------
    lfn : str
        Empty for the last part of its PFN.
    tree : str
        Empty for the first whose events are numbered.
    numbers : tuple of str
        Branches of run, lumi block and event number; of run and event number; or of the event
        number alone. Empty for those that usually number events.
    digest : str
        Of the fingerprint that it was registered with; another file is refused then.
    """

    pfn: str
    lfn: str = ""
    dataset: str = ""
    tree: str = ""
    numbers: Names = ()
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Extracted:
    """A file with the numbers of its events.

    Attributes
    ----------
    file : IndexedFile
        Without a number of its own.
    runs, lumis : uint32, shape (entries,)
    events : uint64, shape (entries,)
    """

    file: IndexedFile
    runs: Array
    lumis: Array
    events: Array


Result = Extracted | IndexedFile | EvstreamError
"""What came of a file: an `IndexedFile` is one that is in the index already."""


def extract(readers: Readers, wanted: WantedFile, known: frozenset[Indexed]) -> Result:
    """Read the numbers of a file's events, unless it is known.

    Parameters
    ----------
    known : frozenset of (str, str)
        `IndexedFile.indexed` of those that are in the index.
    """
    try:
        with readers.opener.open(wanted.pfn) as source:
            form, index = readers.formats.inspect(source, without_secrets(wanted.pfn))
            return _Reading(wanted, source, form, index).result(known)
    except EvstreamError as error:
        name = without_secrets(wanted.pfn)
        told = error.message if name in error.message else f"{name}: {error.message}"
        return type(error)(told, hint=error.hint, **error.fields)


class _Reading:
    """One file that is being read."""

    def __init__(
        self, wanted: WantedFile, source: ByteSource, form: Format, index: FileIndex
    ) -> None:
        self._wanted = wanted
        self._source = source
        self._format = form
        self._index = index

    def result(self, known: frozenset[Indexed]) -> Extracted | IndexedFile:
        wanted, index = self._wanted, self._index
        if wanted.digest and wanted.digest != index.fingerprint:
            raise SourceChangedError(
                f"it is another file than {wanted.dataset} has",
                hint="put the file back, or register a dataset of today's files",
            )
        trees = [wanted.tree] if wanted.tree else list(index.trees)
        if wanted.tree and wanted.tree not in index.trees:
            has = ", ".join(index.trees) or "no tree at all"
            raise RequestError(f"there is no tree {wanted.tree}", hint=f"it has {has}")
        choices = [wanted.numbers] if wanted.numbers else EVENT_NUMBERS
        for numbered in find_numbered(self._format, index, trees, choices):
            file = self._file(numbered)
            if file.indexed in known:
                return file
            with self._at_hand(numbered.tree, numbered.names) as path:
                rows = self._format.read_numbers(path, numbered.tree, numbered.names)
            if rows is not None:
                return _extracted(file, rows)
        named = ", ".join(wanted.numbers) or "run and event numbers"
        raise RequestError(
            f"no tree has {named}", hint="name the branches that number events, with --numbers"
        )

    def _file(self, numbered: Numbered) -> IndexedFile:
        index, pfn = self._index, without_secrets(self._wanted.pfn)
        guid, pooled = index.uuid, None
        if pool.has_pool_trees(index.trees):
            with self._at_hand(pool.PARAMS) as path:
                guid = pool.pool_guid(pool.read_strings(path, pool.PARAMS)) or guid
            if pool.LINKS in index.trees:
                with self._at_hand(pool.LINKS) as path:
                    pooled = pool.pool_file(guid, pool.read_strings(path, pool.LINKS))
        return IndexedFile(
            number=0,
            lfn=self._wanted.lfn or PurePosixPath(pfn.partition("?")[0]).name,
            guid=guid,
            pfns=(pfn,),
            format=self._format.name,
            size=index.size,
            uuid=index.uuid,
            digest=index.fingerprint,
            tree=numbered.tree,
            entries=index.trees[numbered.tree].entries,
            numbers=numbered.names,
            datasets=(self._wanted.dataset,) if self._wanted.dataset else (),
            pool=pooled,
        )

    @contextmanager
    def _at_hand(self, tree: str, branches: Names = ()) -> Iterator[Path]:
        """Give a local file that has some branches of a tree: this one, or a cut of it."""
        path = local_path(self._wanted.pfn)
        if path is not None:
            yield path
            return
        with tempfile.TemporaryDirectory(prefix="evstream-") as scratch:
            copy = Path(scratch) / f"numbers.{self._format.name}"
            cut = self._format.plan_cut(
                self._index,
                tree=tree,
                entry_start=0,
                entry_stop=self._index.trees[tree].entries,
                branches=None if self._format.whole or not branches else list(branches),
            )
            cut.prepare(self._source)
            with copy.open("wb") as file:
                for offset in range(0, cut.size, _COPY_BYTES):
                    file.write(cut.read(offset, _COPY_BYTES, self._source))
            yield copy


def _extracted(file: IndexedFile, rows: Array) -> Extracted:
    columns = [rows[:, number] for number in range(rows.shape[1])]
    nothing = np.zeros(len(rows), np.int64)
    runs = columns[0] if len(columns) > 1 else nothing
    lumis = columns[1] if len(columns) > 2 else np.full(len(rows), NO_LUMI, np.int64)
    for what, values in (("run", runs), ("lumi block", lumis)):
        wrong = np.flatnonzero((values < 0) | (values > (NO_LUMI if values is lumis else _RUN_MAX)))
        if len(wrong):
            raise DataError(
                f"entry {wrong[0]} has {what} {values[wrong[0]]}, not one from 0 to {_RUN_MAX}",
                hint="name the branches that number events, with --numbers",
            )
    # Numbers of 64 bits came with their bits.
    events = columns[-1].astype(np.int64).view(np.uint64)
    return Extracted(file, runs.astype(np.uint32), lumis.astype(np.uint32), events)


def extract_all(
    make_readers: Callable[[], Readers],
    wanted: Sequence[WantedFile],
    known: frozenset[Indexed],
    processes: int,
) -> Generator[Result, None, None]:
    """Read many files; yields what came of each as it is done.

    Parameters
    ----------
    make_readers : callable
        A function of a module: each process calls it once.
    processes : int
        At most; few files are read by fewer.
    """
    processes = min(processes, -(-len(wanted) // FILES_PER_PROCESS))
    if processes <= 1:
        readers = make_readers()
        for file in wanted:
            yield extract(readers, file, known)
        return
    context = _Spawned()
    try:
        yield from _read_by(context, processes, make_readers, known, wanted)
    finally:
        # An interrupt waits for files that are being read, another one does not.
        for process in context.processes:
            if process.pid is not None:
                process.terminate()


def _read_by(
    context: SpawnContext,
    processes: int,
    make_readers: Callable[[], Readers],
    known: frozenset[Indexed],
    wanted: Sequence[WantedFile],
) -> Iterator[Result]:
    executor = ProcessPoolExecutor(
        processes, mp_context=context, initializer=_begin, initargs=(make_readers, known)
    )
    pending: set[Future[Result]] = set()
    files = iter(wanted)
    try:
        while True:
            # What is read ahead stays little, however many files there are.
            while len(pending) < processes * _WAITING_PER_PROCESS:
                if (more := next(files, None)) is None:
                    break
                with _interrupts_held():
                    pending.add(executor.submit(_extract_here, more))
            if not pending:
                return
            finished, pending = wait(pending, return_when=FIRST_COMPLETED)
            for done in finished:
                yield done.result()
    except BrokenProcessPool as error:
        raise DataError(
            "a process that read files died; one of them, or too little memory, killed it",
            hint="build again with --processes 1: it ends at the file that does it",
        ) from error
    finally:
        # Not by `with`, whose end waits whatever interrupts this.
        executor.shutdown(cancel_futures=True)


class _Spawned(SpawnContext):
    """Makes processes anew: forked ones would share locks and threads of libraries."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[SpawnProcess] = []

    def Process(self, *args: Any, **named: Any) -> SpawnProcess:  # type: ignore[override]  # noqa: N802
        # Whoever leaves does not wait for a daemon, however often it is interrupted.
        process = SpawnProcess(*args, **named, daemon=True)
        self.processes.append(process)
        return process


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Start processes that a terminal does not interrupt: the builder ends them by itself."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_readers: Readers
_known: frozenset[Indexed]


def _begin(make_readers: Callable[[], Readers], known: frozenset[Indexed]) -> None:
    """Prepare a process that reads files."""
    global _readers, _known
    _readers, _known = make_readers(), known
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Leave when the builder is killed: nobody would ask for anything any more."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _extract_here(wanted: WantedFile) -> Result:
    return extract(_readers, wanted, _known)
