"""``evstream index``: from run, lumi block and event numbers to files and entries."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from evstream.cli.event_questions import (
    DEFAULT_QUESTION,
    Dataset,
    Folder,
    QuestionOptions,
    ask,
    folder_of,
)
from evstream.cli.printing import print_json, print_pairs, print_table, size_text
from evstream.cli.service import DEFAULT_DOOR, Door
from evstream.cli.verify import Numbers
from evstream.client import Service
from evstream.client.inputs import expand_inputs
from evstream.domain.errors import ConfigError, DataError, NotFoundError, RequestError
from evstream.domain.words import counted
from evstream.eventindex import EventIndex, IndexedFile, WantedFile, open_builder, update_index
from evstream.eventindex.rows import NO_LUMI
from evstream.wire.event_messages import EventAnswer

ROWS_SHOWN_MAX = 1000


def build(
    *inputs: Annotated[
        str, Parameter(help="Registered datasets; files, globs, folders, URLs as for 'run'.")
    ],
    index: Folder = None,
    tree: Annotated[
        str, Parameter(help="Tree of the events; default: the first whose events are numbered.")
    ] = "",
    numbers: Numbers = (),
    processes: Annotated[
        int | None, Parameter(help="Processes that read files; default: one a core.")
    ] = None,
    dataset: Annotated[str, Parameter(help="Which dataset of a coffea fileset.")] = "",
    door: Door = DEFAULT_DOOR,
) -> None:
    """Index the events of files by run, lumi block and event number.

    Files whose content is in the index are not read again; a changed file replaces what it
    was. After a kill, the same command goes on. A service is asked for datasets only.

    For example:

        evstream index build /data/Run2012B_*.root
        evstream index build user:dimuons --index /data/event-index
    """
    from evstream.assembly import make_readers

    wanted = _wanted(inputs, dataset, tree, numbers, door)
    done = update_index(
        folder_of(index, door), wanted, make_readers, processes or os.cpu_count() or 1
    )
    for error in done.failed:
        print(f"not indexed: {error}", file=sys.stderr)
    if door.json:
        failed = [str(error) for error in done.failed]
        print_json(
            {"added": done.added, "known": done.known, "events": done.events, "failed": failed}
        )
    else:
        added, events = (
            counted(done.added, "file", "files"),
            counted(done.events, "event", "events"),
        )
        print(f"{added} with {events} added, {done.known} known already")
    if done.failed:
        raise DataError(
            f"{len(done.failed)} of {len(wanted)} files are not indexed",
            hint="see above why; the others are in the index",
        )


def lookup(
    *events: Annotated[
        str,
        Parameter(
            help="RUN:EVENT, RUN:LUMI:EVENT, RUN:FIRST-LAST, or files of such lines, of CSV or "
            "of JSON."
        ),
    ],
    options: QuestionOptions = DEFAULT_QUESTION,
    lumis: Annotated[
        Path | None,
        Parameter(help="Lumi blocks: CMS's JSON or an ATLAS good-run list (XML)."),
    ] = None,
    selection: Annotated[
        Path | None,
        Parameter(help="File to write the selection to, which 'get', 'submit' and 'run' take."),
    ] = None,
    door: Door = DEFAULT_DOOR,
) -> None:
    """Find events: which file, and which entry of it. Name events, or give lumi blocks.

    Events that are nowhere, and those at several places, are told on standard error; so are
    files with events of a run of '--lumis' that have no lumi blocks: theirs are not selected.

    For example:

        evstream index lookup 194533:1200871 --selection picked.json
        evstream index lookup --lumis good-runs.json --selection good.json
    """
    if events and lumis is not None:
        raise RequestError(
            "events and lumi blocks are asked for one by one",
            hint="leave --lumis out, or the events: it selects all events of its lumi blocks",
        )
    found = ask(events, options, door, lumis)
    if door.json:
        print_json(found)
    elif found.places:
        _print_places(found)
    tell(found)
    if selection is not None:
        _write(selection, found)


def duplicates(*, index: Folder = None, dataset: Dataset = "", door: Door = DEFAULT_DOOR) -> None:
    """List events that are at several places: the same run, lumi block and number.

    For example:

        evstream index duplicates --dataset user:dimuons
    """
    opened = EventIndex(folder_of(index, door))
    rows = []
    for found in opened.duplicates(opened.only(dataset)):
        rows += [
            (run, None if lumi == NO_LUMI else lumi, event, opened.files[file].lfn, entry)
            for run, lumi, event, file, entry in found.tuples()
        ]
    if door.json:
        print_json([dict(zip(_COLUMNS, row, strict=True)) for row in rows])
        return
    _print_rows(rows)
    count = len({row[:3] for row in rows})
    told = "event is" if count == 1 else "events are"
    print(f"{count} {told} at {len(rows)} places", file=sys.stderr)


def remove(
    *names: Annotated[str, Parameter(help="LFNs, PFNs or GUIDs of files of the index.")],
    index: Folder = None,
    dataset: Annotated[
        str, Parameter(help="Instead: all files that were indexed for this dataset alone.")
    ] = "",
    door: Door = DEFAULT_DOOR,
) -> None:
    """Take files out of an index. Their room is given back by 'evstream index compact'.

    Files of a dataset that were indexed for others too stay for these.

    For example:

        evstream index remove old.root
        evstream index remove --dataset user:old
    """
    if bool(names) == bool(dataset):
        raise RequestError("name files, or a dataset", hint="give LFNs, or --dataset")
    with open_builder(folder_of(index, door)) as builder:
        files = builder.files
        if dataset:
            chosen = [file for file in files if dataset in file.datasets]
            missing = [] if chosen else [dataset]
        else:
            called = [file for file in files if _called(file, names)]
            for name in names:
                _refuse_several(name, [file for file in called if _called(file, [name])])
            known = {name for file in called for name in names if _called(file, [name])}
            chosen, missing = called, [name for name in names if name not in known]
        if missing:
            raise NotFoundError(
                f"nothing in the index is called {missing[0]}", hint="see 'evstream index show'"
            )
        removed = builder.remove(chosen, dataset)
    if door.json:
        print_json({"removed": removed})
    else:
        print(f"{counted(removed, 'file', 'files')} removed")


def _refuse_several(name: str, called: Sequence[IndexedFile]) -> None:
    """Refuse a name that several files have; trees of one file go together."""
    if len({file.digest for file in called}) > 1:
        places = ", ".join(file.pfns[0] for file in called[:3])
        raise RequestError(
            f"{len(called)} files of the index are called {name}",
            hint=f"name them by their PFNs, such as {places}",
        )


def _called(file: IndexedFile, names: Sequence[str]) -> bool:
    own = {file.lfn, *file.pfns}
    return any(name in own or name.lower() == file.guid.lower() for name in names if name)


def compact(*, index: Folder = None, door: Door = DEFAULT_DOOR) -> None:
    """Merge what builds have added piece by piece, and drop what replaced files have left.

    Builds do it themselves now and then; after it, look-ups are fastest.

    For example:

        evstream index compact --index /data/event-index
    """
    folder = folder_of(index, door)
    before = len(EventIndex(folder).segments)
    with open_builder(folder) as builder:
        builder.compact()
    after = len(EventIndex(folder).segments)
    if door.json:
        print_json({"segments_before": before, "segments": after})
    else:
        print(f"{before} segments before, {after} now")


def show(
    *,
    index: Folder = None,
    check: Annotated[
        bool, Parameter(negative="", help="Read all of it and compare it with its checksums.")
    ] = False,
    door: Door = DEFAULT_DOOR,
) -> None:
    """Show the files of an index, and its size.

    For example:

        evstream index show --check
    """
    opened = EventIndex(folder_of(index, door))
    if check:
        opened.check()
    files = list(opened.files.values())
    if door.json:
        print_json(
            {
                "folder": str(opened.folder),
                "events": len(opened),
                "bytes": opened.nbytes,
                "segments": len(opened.segments),
                "files": files,
            }
        )
        return
    print_table(
        ["file", "GUID", "tree", "entries", "numbers", "datasets"],
        [
            (f.lfn, f.guid, f.tree, f.entries, ", ".join(f.numbers), ", ".join(f.datasets))
            for f in files[:ROWS_SHOWN_MAX]
        ],
    )
    print_pairs(
        [
            ("folder", opened.folder),
            ("files", len(files)),
            ("events", len(opened)),
            ("segments", len(opened.segments)),
            ("size", size_text(opened.nbytes)),
        ]
    )


_COLUMNS = ("run", "lumi", "event", "file", "entry")


def _wanted(
    inputs: Sequence[str], dataset: str, tree: str, numbers: tuple[str, ...], door: Door
) -> list[WantedFile]:
    """Return the files that inputs name: what is no file here is a dataset of the service."""
    texts = [text for text in inputs if not _names_dataset(text)]
    wanted = []
    if texts or not inputs:
        wanted = [
            WantedFile(pfn=file.pfn, lfn=file.lfn, tree=tree, numbers=numbers)
            for file in expand_inputs(texts, dataset)
        ]

    async def work(service: Service) -> list[WantedFile]:
        views = [await service.dataset(name) for name in inputs if _names_dataset(name)]
        return [
            WantedFile(file.pfns[0], file.lfn, view.name, tree, numbers, file.fingerprint.digest)
            for view in views
            for file in view.files
        ]

    return wanted + (door.ask(work) if len(texts) < len(inputs) else [])


def _names_dataset(text: str) -> bool:
    return ":" in text and "://" not in text and not Path(text).expanduser().exists()


def _write(path: Path, found: EventAnswer) -> None:
    if not found.files:
        raise NotFoundError(
            "none of the events is in the index, so there is nothing to select",
            hint="see 'evstream index show' for what is in it",
        )
    from msgspec import json

    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(json.format(json.encode(found.fileset()), indent=1))
        partial.replace(path)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)


def _print_places(found: EventAnswer) -> None:
    _print_rows([(p.run, p.lumi, p.event, found.files[p.file].lfn, p.entry) for p in found.places])


def _print_rows(rows: Sequence[tuple[object, ...]]) -> None:
    shown = [
        tuple("-" if value is None else value for value in row) for row in rows[:ROWS_SHOWN_MAX]
    ]
    print_table(list(_COLUMNS), shown)
    if len(rows) > ROWS_SHOWN_MAX:
        print(f"... and {len(rows) - ROWS_SHOWN_MAX} more: see --json", file=sys.stderr)


def tell(found: EventAnswer) -> None:
    """Say on standard error what was found, and what was not."""
    for what, keys in (("not found", found.missing), ("at several places", found.repeated)):
        for run, lumi, event in keys[:ROWS_SHOWN_MAX]:
            named = f"{run}:{event}" if lumi is None else f"{run}:{lumi}:{event}"
            print(f"{what}: {named}", file=sys.stderr)
        if len(keys) > ROWS_SHOWN_MAX:
            print(f"{what}: {len(keys) - ROWS_SHOWN_MAX} more", file=sys.stderr)
    for lfn in found.without_lumis[:ROWS_SHOWN_MAX]:
        print(f"not selected, since it has no lumi blocks: {lfn}", file=sys.stderr)
    entries = counted(found.selected, "entry", "entries")
    print(f"{entries} of {counted(len(found.files), 'file', 'files')}", file=sys.stderr)
