"""The catalogue: datasets, files, tasks and receipts as JSON beside their keys."""

# ruff: noqa: S608 - lists of question marks are put into statements, and nothing else

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import msgspec

from evstream.adapters.catalogue.database import Database, from_microseconds, to_microseconds
from evstream.adapters.catalogue.owner import Owner
from evstream.adapters.catalogue.reopening import discard, drop_chunks, redo
from evstream.adapters.catalogue.spending import spent
from evstream.adapters.catalogue.transitions import (
    add_chunks,
    drop_book,
    insert_book,
)
from evstream.adapters.catalogue.value_lists import value_lists
from evstream.domain.accounts import Spent
from evstream.domain.chains import chunks_of
from evstream.domain.dataset import Dataset, Fingerprint, SourceFile
from evstream.domain.errors import ConflictError, NotFoundError, RequestError
from evstream.domain.ledger import BookRules
from evstream.domain.merging import MergeGroup, merge_chunks
from evstream.domain.names import DatasetName, Lfn, TaskId
from evstream.domain.scheduling import Scheduling
from evstream.domain.splitting import Chunk
from evstream.domain.states import ACTIVE, TaskState
from evstream.domain.task import (
    TakeBack,
    TakenBack,
    Task,
    TaskSpec,
    archived,
    dataset_of,
    ended,
    merge_book,
    process_book,
)
from evstream.ports.catalogue import EVERY, ActiveTasks

_TASK = (
    "SELECT task, spec, state, request_id, created, ended, reason, taken_back, submitter FROM task"
)


_INSERT_FILE = """
    INSERT INTO file (dataset, position, digest, size, uuid, record, lfn)
    VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (dataset, position) DO NOTHING"""
_INSERT_MERGE = """
    INSERT INTO merge_group (task, number, record) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"""


def _to_json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _add_dataset(db: Database, dataset: Dataset, indexes: dict[str, bytes]) -> None:
    known, _ = _files(db, dataset.name)
    if known and known != dataset.files:
        raise ConflictError(
            f"dataset {dataset.name} exists with other content",
            hint="choose another name",
            dataset=dataset.name,
        )
    _keep_indexes(db, indexes)
    if known:
        _learn_checksums(db, dataset.name, known, dataset.files)
        return
    db.execute("INSERT INTO dataset (name, files, bytes) VALUES (?, 0, 0)", (dataset.name,))
    _insert_files(db, dataset.name, enumerate(dataset.files))


def _learn_checksums(
    db: Database, name: DatasetName, known: Sequence[SourceFile], told: Sequence[SourceFile]
) -> None:
    """Keep checksums that a dataset's files were registered without."""
    for position, (file, again) in enumerate(zip(known, told, strict=True)):
        learnt = file.learns(again)
        if learnt.checksums != file.checksums:
            db.execute(
                "UPDATE file SET record = ? WHERE dataset = ? AND position = ?",
                (_to_json(learnt), name, position),
            )


def _keep_indexes(db: Database, indexes: dict[str, bytes]) -> None:
    db.executemany(
        "INSERT INTO source_index (digest, content) VALUES (?, ?)"
        " ON CONFLICT (digest) DO UPDATE SET content = excluded.content",
        indexes.items(),
    )


def _insert_files(
    db: Database, name: DatasetName, files: Iterable[tuple[int, SourceFile]]
) -> list[SourceFile]:
    """Put files into a dataset, but for those whose position is taken; return them."""
    added: list[SourceFile] = []
    for position, file in files:
        mark = file.fingerprint
        row = (name, position, mark.digest, mark.size, mark.uuid, _to_json(file), file.lfn)
        if db.execute(_INSERT_FILE, row).rowcount:
            added.append(file)
    db.execute(
        "UPDATE dataset SET files = files + ?, bytes = bytes + ? WHERE name = ?",
        (len(added), sum(file.fingerprint.size for file in added), name),
    )
    return added


def _retract_files(db: Database, name: DatasetName, positions: Sequence[int]) -> None:
    for position in positions:
        sizes = db.execute(
            "UPDATE file SET retracted = 1 WHERE dataset = ? AND position = ? AND retracted = 0"
            " RETURNING size",
            (name, position),
        ).fetchall()
        db.executemany(
            "UPDATE dataset SET files = files - 1, bytes = bytes - ? WHERE name = ?",
            ((size, name) for (size,) in sizes),
        )


def _files(
    db: Database, name: DatasetName
) -> tuple[tuple[SourceFile, ...], tuple[SourceFile, ...]]:
    """Return the files of a dataset, and those that have left it."""
    decoder = msgspec.json.Decoder(SourceFile)
    rows = db.execute(
        "SELECT record, retracted FROM file WHERE dataset = ? ORDER BY position", (name,)
    )
    files: tuple[list[SourceFile], list[SourceFile]] = [], []
    for record, retracted in rows:
        files[retracted].append(decoder.decode(record))
    return tuple(files[0]), tuple(files[1])


def _dataset(db: Database, name: DatasetName) -> Dataset:
    if not db.execute("SELECT 1 FROM dataset WHERE name = ?", (name,)).fetchone():
        raise NotFoundError(
            f"there is no dataset {name}", hint="see 'evstream dataset list'", dataset=name
        )
    return Dataset(name, *_files(db, name))


def _files_named(
    db: Database, lfns: Sequence[Lfn]
) -> dict[Lfn, list[tuple[DatasetName, SourceFile]]]:
    decoder = msgspec.json.Decoder(SourceFile)
    found: dict[Lfn, list[tuple[DatasetName, SourceFile]]] = {lfn: [] for lfn in lfns}
    for marks, some in value_lists(list(found)):
        rows = db.execute(
            f"SELECT lfn, dataset, record FROM file WHERE lfn IN ({marks}) AND retracted = 0"
            " ORDER BY lfn, seq DESC",
            some,
        )
        for lfn, dataset, record in rows.fetchall():
            found[lfn].append((DatasetName(dataset), decoder.decode(record)))
    return found


def _file(db: Database, fingerprint: Fingerprint) -> SourceFile:
    row = db.execute(
        "SELECT record FROM file WHERE digest = ? AND size = ? AND uuid = ?"
        " AND retracted = 0"
        " ORDER BY seq DESC LIMIT 1",
        (fingerprint.digest, fingerprint.size, fingerprint.uuid),
    ).fetchone()
    if row is None:
        raise NotFoundError(
            f"no file with digest {fingerprint.digest[:12]} is registered",
            hint="register it with 'evstream dataset add'",
            digest=fingerprint.digest,
        )
    return msgspec.json.decode(row[0], type=SourceFile)


def _source_index(db: Database, digest: str) -> bytes | None:
    row = db.execute("SELECT content FROM source_index WHERE digest = ?", (digest,)).fetchone()
    return None if row is None else bytes(row[0])


def _to_task(row: tuple[Any, ...]) -> Task:
    number, spec, state, request_id, created, ended, reason, taken_back, submitter = row
    return Task(
        id=TaskId(number),
        spec=msgspec.json.decode(spec, type=TaskSpec),
        state=TaskState(state),
        request_id=request_id,
        created=from_microseconds(created),
        ended=None if ended is None else from_microseconds(ended),
        reason=reason,
        taken_back=None if taken_back is None else msgspec.json.decode(taken_back, type=TakenBack),
        submitter=submitter,
    )


def _tasks(
    db: Database, states: Sequence[TaskState], after: int = 0, limit: int = EVERY
) -> list[Task]:
    among = f" AND state IN ({', '.join('?' * len(states))})" if states else ""
    values = [after, *(state.value for state in states), limit]
    rows = db.execute(f"{_TASK} WHERE task > ?{among} ORDER BY task LIMIT ?", values)
    return [_to_task(row) for row in rows.fetchall()]


def _task(db: Database, task: TaskId) -> Task:
    row = db.execute(f"{_TASK} WHERE task = ?", (task,)).fetchone()
    if row is None:
        raise NotFoundError(f"there is no task {task}", hint="see 'evstream status'", task=task)
    return _to_task(row)


def _add_task(
    db: Database,
    spec: TaskSpec,
    request_id: str,
    rules: BookRules,
    chunks: Sequence[Chunk],
    submitter: str,
) -> Task:
    known = db.execute(f"{_TASK} WHERE request_id = ? AND forgotten = 0", (request_id,)).fetchone()
    if known is not None:
        return _to_task(known)
    rows = db.execute(
        "INSERT INTO task (request_id, spec, state, created, submitter) VALUES (?, ?, ?, ?, ?)"
        " RETURNING task",
        (
            *(request_id, _to_json(spec), TaskState.RUNNING.value),
            *(to_microseconds(db.now()), submitter),
        ),
    ).fetchall()
    task = TaskId(rows[0][0])
    insert_book(db, process_book(task), rules, chunks)
    if spec.takes:
        made = dataset_of(task)
        db.execute("INSERT INTO dataset (name, files, bytes) VALUES (?, 0, 0)", (made,))
        db.executemany(
            "INSERT INTO taker (parent, task) VALUES (?, ?) ON CONFLICT DO NOTHING",
            ((taken.task, task) for taken in spec.takes),
        )
    return _task(db, task)


def _forget_request_ids(db: Database, life: timedelta, limit: int) -> int:
    return db.execute(
        "UPDATE task SET forgotten = 1 WHERE task IN (SELECT task FROM task"
        " WHERE forgotten = 0 AND ended IS NOT NULL AND ended <= ? ORDER BY ended LIMIT ?)",
        (to_microseconds(db.now() - life), limit),
    ).rowcount


def _take_outputs(
    db: Database, number: TaskId, files: Sequence[SourceFile], indexes: dict[str, bytes]
) -> None:
    task = _task(db, number)
    if task.state.final:
        raise ended(task)
    _keep_indexes(db, indexes)
    numbered = [(file.origin.number, file) for file in files if file.origin is not None]
    added = _insert_files(db, task.dataset, numbered)
    for position, file in numbered if len(added) < len(numbered) else []:
        _require_same_origin(db, task, position, file)
    chunks = chunks_of(added, task.spec.tree)
    add_chunks(db, process_book(number), chunks, task.spec.bisections_per_range)


def _require_same_origin(db: Database, task: Task, position: int, file: SourceFile) -> None:
    """Refuse a number that another head has given to another output."""
    ((record,),) = db.execute(
        "SELECT record FROM file WHERE dataset = ? AND position = ?", (task.dataset, position)
    ).fetchall()
    if msgspec.json.decode(record, type=SourceFile).origin != file.origin:
        raise ConflictError(
            f"task {task.id} has another file {position}",
            hint="look again what it has taken",
            task=task.id,
        )


def _takers(db: Database, task: TaskId) -> list[TaskId]:
    rows = db.execute("SELECT task FROM taker WHERE parent = ? ORDER BY task", (task,))
    return [TaskId(number) for (number,) in rows]


def _start_merging(db: Database, number: TaskId, rules: BookRules, chunks: Sequence[Chunk]) -> Task:
    task = _task(db, number)
    if task.state.final:
        raise ConflictError(
            f"task {number} is {task.state.value}", hint="submit a task of its own", task=number
        )
    if task.state is TaskState.RUNNING:
        insert_book(db, merge_book(number), rules, [])
        add_chunks(db, merge_book(number), chunks)
        db.execute("UPDATE task SET state = ? WHERE task = ?", (TaskState.MERGING.value, number))
    return _task(db, number)


def _add_merges(db: Database, task: TaskId, rules: BookRules, groups: Sequence[MergeGroup]) -> None:
    state = _task(db, task).state
    if state.final:
        raise ConflictError(f"task {task} is {state.value}", task=task)
    insert_book(db, merge_book(task), rules, [])
    add_chunks(db, merge_book(task), merge_chunks(groups))
    for group in groups:
        # What a group was decoded from may be spelled in another way.
        if not db.execute(_INSERT_MERGE, (task, group.number, _to_json(group))).rowcount:
            _require_same(group, _merge(db, task, group.number), task)


def _require_same(group: MergeGroup, known: MergeGroup, task: TaskId) -> None:
    if group != known:
        raise ConflictError(
            f"task {task} has another merge {group.number}",
            hint="plan its merges anew from what there is",
            task=task,
        )


def _merges(db: Database, task: TaskId) -> list[MergeGroup]:
    rows = db.execute("SELECT record FROM merge_group WHERE task = ? ORDER BY number", (task,))
    decoder = msgspec.json.Decoder(MergeGroup)
    return [decoder.decode(record) for (record,) in rows]


def _merge(db: Database, task: TaskId, number: int) -> MergeGroup:
    row = db.execute(
        "SELECT record FROM merge_group WHERE task = ? AND number = ?", (task, number)
    ).fetchone()
    if row is None:
        raise NotFoundError(f"task {task} has no merge {number}", task=task)
    return msgspec.json.decode(row[0], type=MergeGroup)


def _pause(db: Database, number: TaskId, reason: str) -> Task:
    task = _active(db, number)
    row = (TaskState.PAUSED.value, task.reason or reason, number)
    db.execute("UPDATE task SET state = ?, reason = ? WHERE task = ?", row)
    return _task(db, number)


def _resume(db: Database, number: TaskId) -> Task:
    if _active(db, number).state is TaskState.PAUSED:
        row = (TaskState.RUNNING.value, number)
        db.execute("UPDATE task SET state = ?, reason = '' WHERE task = ?", row)
    return _task(db, number)


def _reschedule(db: Database, number: TaskId, scheduling: Scheduling) -> Task:
    spec = replace(_active(db, number).spec, scheduling=scheduling)
    db.execute("UPDATE task SET spec = ? WHERE task = ?", (_to_json(spec), number))
    return _task(db, number)


def _drop_books(db: Database, task: Task) -> None:
    if _task(db, task.id) != task:
        raise ConflictError(f"task {task.id} was opened again", task=task.id)
    for book in (process_book(task.id), merge_book(task.id)):
        drop_book(db, book)


def _active(db: Database, number: TaskId) -> Task:
    task = _task(db, number)
    if task.state.final:
        raise ended(task)
    return task


def _take_back(db: Database, number: TaskId, change: TakeBack) -> Task:
    task, book = _task(db, number), process_book(number)
    if task.taken_back is not None and task.taken_back.key == change.key:
        return task
    if db.execute("SELECT 1 FROM book WHERE book = ?", (book,)).fetchone() is None:
        raise archived(task)
    taken = TakenBack(
        change.key,
        redo(db, book, change.redo, change.reason),
        discard(db, book, change.discard, change.reason),
        redo(db, book, change.merged_with, change.reason),
        task.times_taken_back + 1,
    )
    if change.retracted:
        drop_chunks(db, book, change.retracted, change.reason)
        _retract_files(db, task.dataset, change.retracted)
    if change.merges:
        places = [(merge, 0, 1) for merge in change.merges]
        discard(db, merge_book(number), places, change.reason)
    paused = task.state is TaskState.PAUSED
    state, reason = (task.state, task.reason) if paused else (TaskState.RUNNING, "")
    db.execute(
        "UPDATE task SET state = ?, reason = ?, receipt = NULL, ended = NULL, taken_back = ?"
        " WHERE task = ?",
        (state.value, reason, _to_json(taken), number),
    )
    return _task(db, number)


def _end_task(
    db: Database,
    number: TaskId,
    state: TaskState,
    reason: str,
    receipt: dict[str, Any] | None,
) -> Task:
    if not state.final:
        raise RequestError(f"a task cannot end as {state.value}", hint="give a final state")
    if not _task(db, number).state.final:
        db.execute(
            "UPDATE task SET state = ?, reason = ?, receipt = ?, ended = ? WHERE task = ?",
            (
                state.value,
                reason,
                None if receipt is None else _to_json(receipt),
                to_microseconds(db.now()),
                number,
            ),
        )
    return _task(db, number)


def _output_store(db: Database, identity: str) -> str:
    known = db.execute("SELECT id FROM output_store").fetchone()
    if known is not None:
        return str(known[0])
    if identity:
        db.execute("INSERT INTO output_store (id) VALUES (?)", (identity,))
    return identity


def _receipt(db: Database, task: TaskId) -> dict[str, Any]:
    row = db.execute("SELECT receipt FROM task WHERE task = ?", (task,)).fetchone()
    if row is None or row[0] is None:
        raise NotFoundError(
            f"there is no receipt of task {task}",
            hint="see 'evstream status'; a receipt is written when the task ends",
            task=task,
        )
    return msgspec.json.decode(row[0], type=dict[str, Any])


class SqlCatalogue:
    """The `Catalogue` port on the owner's database."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    async def add_dataset(self, dataset: Dataset, indexes: dict[str, bytes]) -> None:
        """Register a dataset; the same one again changes nothing."""
        if not dataset.files:
            raise RequestError(f"dataset {dataset.name} has no files", hint="give at least one")
        await self._owner.run(lambda db: _add_dataset(db, dataset, indexes))

    async def dataset(self, name: DatasetName) -> Dataset:
        """Return a dataset with its files in order."""
        return await self._owner.read(lambda db: _dataset(db, name))

    async def datasets(
        self, after: str = "", limit: int = EVERY
    ) -> list[tuple[DatasetName, int, int]]:
        """Return name, number of files and bytes of datasets behind a name, by name."""
        return await self._owner.read(
            lambda db: db.execute(
                "SELECT name, files, bytes FROM dataset WHERE name > ? ORDER BY name LIMIT ?",
                (after, limit),
            ).fetchall()
        )

    async def file(self, fingerprint: Fingerprint) -> SourceFile:
        """Return a file with this content: the latest registered, whose PFNs are freshest."""
        return await self._owner.read(lambda db: _file(db, fingerprint))

    async def files_named(
        self, lfns: Sequence[Lfn]
    ) -> dict[Lfn, list[tuple[DatasetName, SourceFile]]]:
        """Return the files of some names, with their datasets, the latest registered first."""
        return await self._owner.read(lambda db: _files_named(db, lfns))

    async def source_index(self, digest: str) -> bytes | None:
        """Return the source index of a file, if it is kept."""
        return await self._owner.read(lambda db: _source_index(db, digest))

    async def add_task(
        self,
        spec: TaskSpec,
        request_id: str,
        book: BookRules,
        chunks: Sequence[Chunk],
        submitter: str = "",
    ) -> Task:
        """Create a task and open its book; a known request id gives its task."""
        made = spec, request_id, book, chunks, submitter
        return await self._owner.run(lambda db: _add_task(db, *made))

    async def forget_request_ids(self, life: timedelta, limit: int) -> int:
        """Forget the request ids of tasks that ended so long ago; return of how many."""
        return await self._owner.run(lambda db: _forget_request_ids(db, life, limit))

    async def take_outputs(
        self, task: TaskId, files: Sequence[SourceFile], indexes: dict[str, bytes]
    ) -> None:
        """Give a chained task more files."""
        await self._owner.run(lambda db: _take_outputs(db, task, files, indexes))

    async def takers(self, task: TaskId) -> list[TaskId]:
        """Return the tasks that take outputs of a task, by number."""
        return await self._owner.read(lambda db: _takers(db, task))

    async def task(self, task: TaskId) -> Task:
        """Return a task."""
        return await self._owner.read(lambda db: _task(db, task))

    async def tasks(
        self, states: Sequence[TaskState] | None = None, *, after: int = 0, limit: int = EVERY
    ) -> list[Task]:
        """Return tasks behind a number, all or those in the given states, by number."""
        wanted = list(TaskState if states is None else states)
        if not wanted:
            return []
        # Without the condition on states, since most have ended: the order is that of the key.
        among = () if states is None else wanted
        return await self._owner.read(lambda db: _tasks(db, among, after, limit))

    async def active_tasks(self) -> ActiveTasks:
        """Return the tasks that have not ended."""
        seen, found = await self._owner.read(lambda db: (self._owner.changes, _tasks(db, ACTIVE)))
        return ActiveTasks(found, lambda: self._owner.changes == seen)

    async def spent(self) -> list[Spent]:
        """Return what the work of each submitter's tasks took, by their names."""
        return await self._owner.read(spent)

    async def start_merging(self, task: TaskId, rules: BookRules, chunks: Sequence[Chunk]) -> Task:
        """Move a running task to merging and open its merge book; again is no error.

        Raises
        ------
        ConflictError
            The task has ended.
        """
        return await self._owner.run(lambda db: _start_merging(db, task, rules, chunks))

    async def add_merges(
        self, task: TaskId, rules: BookRules, groups: Sequence[MergeGroup]
    ) -> None:
        """Give a task more to merge: each group is a chunk of its merge book."""
        await self._owner.run(lambda db: _add_merges(db, task, rules, groups))

    async def merges(self, task: TaskId) -> list[MergeGroup]:
        """Return a task's merge groups by number."""
        return await self._owner.read(lambda db: _merges(db, task))

    async def merge(self, task: TaskId, number: int) -> MergeGroup:
        """Return one merge group."""
        return await self._owner.read(lambda db: _merge(db, task, number))

    async def pause_task(self, task: TaskId, reason: str = "") -> Task:
        """Move an active task to paused; again is no error."""
        return await self._owner.run(lambda db: _pause(db, task, reason))

    async def resume_task(self, task: TaskId) -> Task:
        """Move a paused task to running; one that is not paused stays as it is."""
        return await self._owner.run(lambda db: _resume(db, task))

    async def reschedule(self, task: TaskId, scheduling: Scheduling) -> Task:
        """Give a task another place among others."""
        return await self._owner.run(lambda db: _reschedule(db, task, scheduling))

    async def take_back(self, task: TaskId, change: TakeBack) -> Task:
        """Send work of a task out again, or withdraw it, and open the task again."""
        return await self._owner.run(lambda db: _take_back(db, task, change))

    async def end_task(
        self, task: TaskId, state: TaskState, reason: str, receipt: dict[str, Any] | None
    ) -> Task:
        """Move a task to a final state with its receipt; the first end stays."""
        return await self._owner.run(lambda db: _end_task(db, task, state, reason, receipt))

    async def drop_books(self, task: Task) -> None:
        """Forget the books of an ended task."""
        await self._owner.run(lambda db: _drop_books(db, task))

    async def receipt(self, task: TaskId) -> dict[str, Any]:
        """Return the receipt of an ended task."""
        return await self._owner.read(lambda db: _receipt(db, task))

    async def output_store(self, identity: str = "") -> str:
        """Return the id of the store that outputs are in; this one, if there was none."""
        return await self._owner.run(lambda db: _output_store(db, identity))

    async def now(self) -> datetime:
        """Return the database's time, aware, in UTC."""
        return await self._owner.work(lambda desk: desk.now, [])
