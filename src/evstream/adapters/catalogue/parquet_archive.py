"""Books as Parquet files, for whoever wants to look into them with tools of the field.

::

    archive/task-12/task.json             what was asked for, and the receipt
    archive/task-12/ranges/progress.json  sums
    archive/task-12/ranges/chunks.parquet, commits.parquet, closed.parquet, failed.parquet
    archive/task-12/merges/…              the same of its merges, if it had any
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from evstream.domain.errors import ConfigError, DataError, NotFoundError
from evstream.domain.ledger import ClosedInterval, Commit, FailedAttempt, Failure, Progress, Success
from evstream.domain.names import Lfn, TaskId
from evstream.domain.outputs import OutputRecord
from evstream.domain.splitting import Chunk
from evstream.domain.states import RangeState
from evstream.domain.task import is_merge, merge_book, process_book, task_of
from evstream.ports.archive import BookRecord
from evstream.ports.offload import Offload

T = TypeVar("T")

_PLACE = ("chunk", "entry_start", "entry_stop", "attempt")
_HOLDER = ("lease", "worker")


class ParquetArchive:
    """The `Archive` port on a folder, which all heads of a database must share.

    Parameters
    ----------
    folder : Path
        Made with the first book that is put there.
    """

    def __init__(self, folder: Path, offload: Offload) -> None:
        self._folder = folder
        self._offload = offload

    def folder_of(self, task: TaskId) -> Path:
        """Return where a task's books are."""
        return self._folder / f"task-{task}"

    def _book(self, book: int) -> Path:
        return self.folder_of(task_of(book)) / ("merges" if is_merge(book) else "ranges")

    async def put(self, book: int, record: BookRecord) -> None:
        """Write a book's files, durably, and give the folder its name at the end.

        Raises
        ------
        ConfigError
            Parquet files cannot be written here.
        """
        await self._offload(lambda: _write_book(self._book(book), record))

    async def put_task(self, task: TaskId, document: dict[str, Any], books: Sequence[int]) -> None:
        """Write what is known of a task beside its books, and remove what is none of them."""
        content = msgspec.json.format(msgspec.json.encode(document))

        def write() -> None:
            folder = self.folder_of(task)
            folder.mkdir(parents=True, exist_ok=True)
            for book in {process_book(task), merge_book(task)} - set(books):
                shutil.rmtree(self._book(book), ignore_errors=True)
            partial = folder / f".task.json.{os.getpid()}"
            _write_durably(partial, content)
            partial.replace(folder / "task.json")

        await self._offload(write)

    async def progress(self, book: int) -> Progress:
        """Return entries by state, and sums over attempts."""

        def read() -> Progress:
            return msgspec.json.decode(
                (self._book(book) / "progress.json").read_bytes(), type=Progress
            )

        return await self._read(book, read)

    async def chunks(self, book: int) -> list[Chunk]:
        """Return a book's chunks by number."""
        rows = await self._rows(book, "chunks")
        return [
            Chunk(row["chunk"], Lfn(row["lfn"]), row["entry_start"], row["entry_stop"])
            for row in rows
        ]

    async def commits(self, book: int) -> list[Commit]:
        """Return what was done, in entry order."""
        return [
            Commit(
                book=book,
                **_some(row, (*_PLACE, *_HOLDER)),
                success=Success(
                    tuple(_output(one) for one in row["outputs"]),
                    **_some(row, ("cpu_s", "wall_s", "bytes_in")),
                ),
            )
            for row in await self._rows(book, "commits")
        ]

    async def closed(self, book: int) -> list[ClosedInterval]:
        """Return what was set aside, cancelled or withdrawn, in entry order."""
        return [
            ClosedInterval(
                book=book,
                **_some(row, (*_PLACE, "error")),
                state=RangeState[row["state"].upper()],
            )
            for row in await self._rows(book, "closed")
        ]

    async def failed_attempts(self, book: int) -> list[FailedAttempt]:
        """Return attempts that came to nothing, in the order they ended."""
        return [
            FailedAttempt(
                book=book,
                **_some(row, (*_PLACE, *_HOLDER, "running")),
                failure=Failure(**_some(row, ("kind", "error", "log", "cpu_s", "wall_s"))),
            )
            for row in await self._rows(book, "failed")
        ]

    async def _rows(self, book: int, table: str) -> list[dict[str, Any]]:
        def read() -> list[dict[str, Any]]:
            rows: list[dict[str, Any]] = (
                _parquet().read_table(self._book(book) / f"{table}.parquet").to_pylist()
            )
            return rows

        return await self._read(book, read)

    async def _read(self, book: int, read: Callable[[], T]) -> T:
        """Read from a book's folder, whose files are all there if one is."""
        try:
            return await self._offload(read)
        except FileNotFoundError as error:
            raise NotFoundError(f"there is no book {book}", book=book) from error
        except (OSError, ValueError, KeyError, msgspec.MsgspecError) as error:
            raise DataError(
                f"cannot read {self._book(book)}: {error}", hint="restore it from a backup"
            ) from error


def _write_book(folder: Path, record: BookRecord) -> None:
    parquet = _parquet()
    partial = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, (schema, rows) in _tables(record).items():
        path = partial / f"{name}.parquet"
        table = _arrow().Table.from_pylist(rows, _arrow().schema(schema))
        parquet.write_table(table, path, compression="zstd")
        _flush(path)
    _write_durably(partial / "progress.json", msgspec.json.encode(record.progress))
    _flush(partial)
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    if folder.exists():
        # Left by a head that was killed before it dropped the book.
        folder.rename(old)
    partial.rename(folder)
    _flush(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _tables(record: BookRecord) -> dict[str, tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Return columns and rows of each table."""
    pa = _arrow()
    whole, text, real = pa.int64(), pa.string(), pa.float64()
    place = dict.fromkeys(_PLACE, whole)
    output = pa.struct(
        {
            **dict.fromkeys(("stream", "name"), text),
            "size": whole,
            **dict.fromkeys(("sha256", "adler32"), text),
            "entries": pa.map_(text, whole),
        }
    )
    holder = dict.fromkeys(_HOLDER, text)
    times = {"cpu_s": real, "wall_s": real}
    chunks = {"chunk": whole, "lfn": text, "entry_start": whole, "entry_stop": whole}
    return {
        "chunks": (
            chunks,
            [
                {**_picked(row, ("lfn", "entry_start", "entry_stop")), "chunk": row.number}
                for row in record.chunks
            ],
        ),
        "commits": (
            {**place, **holder, "outputs": pa.list_(output), **times, "bytes_in": whole},
            [
                {
                    **_picked(row, (*_PLACE, *holder)),
                    **_picked(row.success, (*times, "bytes_in")),
                    "outputs": [
                        {**asdict(one), "entries": list(one.entries.items())}
                        for one in row.success.outputs
                    ],
                }
                for row in record.commits
            ],
        ),
        "closed": (
            {**place, "state": text, "error": text},
            [
                {**_picked(row, (*_PLACE, "error")), "state": row.state.name.lower()}
                for row in record.closed
            ],
        ),
        "failed": (
            {**place, **holder, "running": pa.bool_(), "kind": text, "error": text, "log": text}
            | times,
            [
                {
                    **_picked(row, (*_PLACE, *holder, "running")),
                    **_picked(row.failure, ("kind", "error", "log", *times)),
                }
                for row in record.failed
            ],
        ),
    }


def _picked(row: object, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}


def _some(row: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: row[name] for name in names}


def _output(row: dict[str, Any]) -> OutputRecord:
    return OutputRecord(**{**row, "entries": dict(row["entries"])})


def _write_durably(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    _flush(path)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _arrow() -> Any:
    try:
        import pyarrow as pa
    except ImportError as error:
        raise ConfigError(
            "the archive needs pyarrow", hint="pip install 'evstream[parquet]'"
        ) from error
    return pa


def _parquet() -> Any:
    _arrow()
    from pyarrow import parquet

    return parquet
