"""One unit of work: fetch, compute, check, store; what goes wrong becomes its report."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from msgspec import structs

from evstream.domain.errors import (
    AccessError,
    ConfigError,
    ConflictError,
    DataError,
    EvstreamError,
    NotFoundError,
    PayloadError,
    RequestError,
    SourceChangedError,
)
from evstream.domain.ledger import ERROR_CHARS_MAX, NODE, SOURCE, Failure, Success
from evstream.domain.outputs import OutputName
from evstream.pilot.concurrency import beside
from evstream.pilot.disk import NO_ROOM
from evstream.pilot.in_hand import InHand, Stage, Unit, Work
from evstream.pilot.merging import Merger
from evstream.pilot.outputs import OutputStage, SentEarly
from evstream.pilot.prefetch import Inputs, Prefetcher
from evstream.pilot.settings import PilotSettings
from evstream.pilot.spotting import is_spotted
from evstream.pilot.stage_room import StageRoom
from evstream.pilot.times import Cores
from evstream.pilot.tools import Tools
from evstream.pilot.unit_files import (
    LOG_NAME,
    file_of,
    files_of,
    output_bytes,
    output_values,
    places_as,
)
from evstream.ports import (
    PayloadCall,
    PayloadRange,
    PayloadResult,
    SecondaryFiles,
)
from evstream.wire.range_id import range_id
from evstream.wire.work_messages import MergeUnit, OutputSlot, RangePart, RangeUnit

_LOG = logging.getLogger(__name__)


class UnitError(EvstreamError):
    """A unit failed at some step; ``kind`` is the ledger's.

    Parameters
    ----------
    stays : bool
        This node is at fault and stays so: other units will fail here as well.
    """

    def __init__(
        self,
        kind: str,
        reason: str,
        *,
        cpu_s: float = 0.0,
        wall_s: float = 0.0,
        stays: bool = False,
    ) -> None:
        super().__init__(reason)
        self.kind = kind
        self.cpu_s = cpu_s
        self.wall_s = wall_s
        self.stays = stays


@dataclass(frozen=True, slots=True)
class Processed:
    """What became of a unit.

    Attributes
    ----------
    received : Counter
        Bytes of its inputs, by where they came from.
    node_failed : bool
        It failed by this node, and so will others.
    contents : dict of str to bytes
        Outputs that are to go with the report, by name.
    md5 : dict of str to str
        Of outputs that were written past the service.
    """

    outcome: Success | Failure
    received: Counter[str] = field(default_factory=Counter)
    node_failed: bool = False
    contents: dict[str, bytes] = field(default_factory=dict)
    md5: dict[str, str] = field(default_factory=dict)


class Workbench:
    """Where units are worked on: so many cores, so many transfers, a directory each.

    Parameters
    ----------
    directory : Path
        Absolute; must exist. Every unit has ``directory/<range_id>`` to itself and
        leaves nothing there.
    announce : callable
        Awaited before a unit begins that came to nothing before.
    """

    def __init__(
        self,
        prefetcher: Prefetcher,
        outputs: OutputStage,
        merger: Merger,
        tools: Tools,
        settings: PilotSettings,
        directory: Path,
        hand: InHand,
        announce: Callable[[Unit], Awaitable[None]],
    ) -> None:
        self._announce = announce
        self._prefetcher = prefetcher
        self._outputs = outputs
        self._runner = tools.runner
        self._offload = tools.offload
        self._merger = merger
        self._directory = directory
        self._hand = hand
        self._disk_is_full = tools.disk_is_full
        self._cores = Cores(settings.cores, hand.now)
        self._room = StageRoom(settings.uploads_max, settings.staged_bytes_max)

    async def process(self, unit: Unit) -> Processed:
        """Work on a unit to its end; whatever happens becomes its outcome.

        Cancelling it ends its payload and removes its directory.
        """
        directory = self._directory / unit.work.range_id
        received: Counter[str] = Counter()
        try:
            with blamed("input"):
                _check_plain(unit.work)
                inputs = await self._fetch(unit.work, directory)
            received = inputs.received
            unit.times.queue_s = inputs.begun - unit.claimed
            unit.times.fetch_s = self._hand.now() - inputs.begun
            try:
                return await self._compute_and_store(unit, directory, inputs)
            finally:
                inputs.remove()
        except UnitError as error:
            # Looked at before anything is removed: what fills the disk may be this unit's.
            error = self._blame_full_disk(error)
            log = await self._outputs.store_log(unit.work, directory)
            return Processed(_failure(error, log), received, error.stays)
        except Exception as error:  # noqa: BLE001 - the pilot must outlive any one unit
            _LOG.exception("%s failed unexpectedly", unit.work.range_id)
            reason = f"unexpected {type(error).__name__}: {error}"
            return Processed(_failure(UnitError("internal", reason), ""), received)
        finally:
            # Disks that are shared take their time.
            await self._offload(partial(shutil.rmtree, directory, ignore_errors=True))

    async def _fetch(self, work: Work, directory: Path) -> Inputs:
        try:
            return await self._prefetcher.fetch(work, directory)
        except (SourceChangedError, NotFoundError) as error:
            if isinstance(work, MergeUnit):
                raise
            raise UnitError(SOURCE, str(error)) from error

    def _blame_full_disk(self, error: UnitError) -> UnitError:
        """Return the node's error for one that the range gets while this node's disk is full.

        A payload sees a full disk first, and tells of it as it likes; some make room again as
        they end, so that nothing but their words is left.
        """
        if error.kind == NODE:
            return error
        if self._disk_is_full(self._directory):
            reason = f"this node's disk: {NO_ROOM[0]} in {self._directory}: {error.message}"
        elif error.kind == "payload" and any(words in error.message for words in NO_ROOM):
            reason = f"this node's disk: {error.message}"
        else:
            return error
        return UnitError(NODE, reason, cpu_s=error.cpu_s, wall_s=error.wall_s, stays=True)

    async def _compute_and_store(self, unit: Unit, directory: Path, inputs: Inputs) -> Processed:
        work = unit.work
        slots, sent = output_slots(work), SentEarly()
        # The core is kept until an upload may begin: a slow store slows the computing, and
        # by that the claims, instead of filling the disk with outputs.
        async with self._cores.one(unit.claimed, unit.times):
            self._hand.move(unit, Stage.RUNNING)
            if work.ref.attempt > 1:
                await self._announce(unit)
            if isinstance(work, MergeUnit):
                with blamed("merge"):
                    output = directory / file_of(work.output)
                    result = await self._merger.run(work, inputs, output)
            else:
                names = {path.name for path in inputs.paths}
                sending = self._outputs.send_early(slots, directory, sent, names)
                async with beside(sending, wanted=any(map(is_spotted, slots))):
                    result = await self._run_payload(unit, work, inputs, directory)
            unit.cpu_s, unit.times.compute_s = result.cpu_s, result.wall_s
            computed = self._hand.now()
            if isinstance(work, RangeUnit) and result.ranges < len(work.parts):
                unit.work = _shortened(work, result.ranges)
                # What was sent early has the name of all ranges.
                slots, sent = output_slots(unit.work), SentEarly()
            inputs.remove()
            room = await self._room.take(output_bytes(slots, directory))
        try:
            self._hand.move(unit, Stage.LEAVING)
            # The next payload begins before the output of this one is looked at.
            await asyncio.sleep(0)
            with blamed("output", result):
                bundle_bytes = work.bundle_bytes if isinstance(work, RangeUnit) else 0
                left = await self._outputs.store(slots, directory, sent, bundle_bytes)
        finally:
            room.free()
            unit.times.stage_s = self._hand.now() - computed
        success = Success(tuple(left.records), result.cpu_s, result.wall_s, inputs.received.total())
        return Processed(success, inputs.received, contents=left.contents, md5=left.md5)

    async def _run_payload(
        self, unit: Unit, work: RangeUnit, inputs: Inputs, directory: Path
    ) -> PayloadResult:
        def note_cpu(cpu_s: float) -> None:
            unit.cpu_s = cpu_s

        ranges = [
            PayloadRange(
                {
                    "input": str(directory / files.input),
                    "entry_start": str(part.entry_start),
                    "entry_stop": str(part.entry_stop),
                    "range_id": _range_id(work, part),
                },
                {
                    wanted.name: SecondaryFiles(
                        tuple(str(directory / name) for name in files.secondary[wanted.name]),
                        wanted.tree,
                    )
                    for wanted in part.secondary
                },
            )
            for part, files in zip(work.parts, files_of(work), strict=True)
        ]
        values = {
            **ranges[0].values,
            **output_values(work.outputs, directory),
            "lfn": work.lfn,
            "tree": _tree_of(work),
            **inputs.staged,
        }
        call = PayloadCall(
            work.payload,
            values,
            directory,
            directory / LOG_NAME,
            ranges[0].secondary,
            ranges if len(ranges) > 1 else (),
            lambda: self._hand.leaving,
        )
        with blamed("payload"):
            return await self._runner.run(call, note_cpu)


@contextmanager
def blamed(kind: str, spent: PayloadResult | None = None) -> Iterator[None]:
    """Turn errors of a step into `UnitError`.

    Definite errors are of the given kind; what may pass elsewhere is the node's.
    """
    cpu_s, wall_s = (spent.cpu_s, spent.wall_s) if spent else (0.0, 0.0)
    try:
        yield
    except UnitError:
        raise
    except PayloadError as error:
        cpu_s, wall_s = (float(str(error.fields.get(name, 0.0))) for name in ("cpu_s", "wall_s"))
        raise UnitError("payload", str(error), cpu_s=cpu_s, wall_s=wall_s) from error
    except OSError as error:
        reason = f"this node's disk: {error}"
        raise UnitError(NODE, reason, cpu_s=cpu_s, wall_s=wall_s, stays=True) from error
    except AccessError as error:
        # Credentials that ran out are mended by people; the range is as good as before.
        raise UnitError(NODE, str(error), cpu_s=cpu_s, wall_s=wall_s) from error
    except ConfigError as error:
        # Something is missing on this node, and is not made here while the pilot lives.
        raise UnitError(NODE, str(error), cpu_s=cpu_s, wall_s=wall_s, stays=True) from error
    except (DataError, RequestError, ConflictError) as error:
        raise UnitError(kind, str(error), cpu_s=cpu_s, wall_s=wall_s) from error
    except EvstreamError as error:
        raise UnitError(NODE, str(error), cpu_s=cpu_s, wall_s=wall_s) from error


def _failure(error: UnitError, log: str) -> Failure:
    return Failure(error.kind, error.message[:ERROR_CHARS_MAX], log, error.cpu_s, error.wall_s)


def output_slots(work: Work) -> list[OutputSlot]:
    """Return where a unit's outputs go, stream by stream."""
    return [work.output] if isinstance(work, MergeUnit) else work.outputs


def _tree_of(work: RangeUnit) -> str:
    recipe = work.parts[0].plan.descriptor.get("recipe", {})
    return str(recipe.get("parameters", {}).get("tree", ""))


def _range_id(work: RangeUnit, part: RangePart) -> str:
    if len(work.parts) == 1:
        return work.range_id
    ref = work.ref
    return range_id(ref.book, ref.chunk, part.entry_start, part.entry_stop, ref.attempt)


def _shortened(work: RangeUnit, ranges: int) -> RangeUnit:
    """Return a unit as if it had only its first ranges; the others are still leased."""
    parts = work.parts[:ranges]
    stop = parts[-1].entry_stop

    def renamed(name: str) -> str:
        return str(replace(OutputName.parse(name), entry_stop=stop))

    return structs.replace(
        work,
        parts=parts,
        ref=structs.replace(work.ref, entry_stop=stop),
        outputs=[
            structs.replace(
                slot,
                name=renamed(slot.name),
                url=f"{slot.url}&stop={stop}",
                places=places_as(slot, renamed(slot.name)),
            )
            for slot in work.outputs
        ],
        log=renamed(work.log),
        log_url=f"{work.log_url}&stop={stop}",
    )


def _check_plain(work: Work) -> None:
    """Refuse names that lead out of the unit's directory."""
    names = [work.range_id, *map(file_of, output_slots(work))]
    if isinstance(work, RangeUnit):
        names += [name for files in files_of(work) for name in files.names]
    for name in names:
        if Path(name).name != name or name in (".", ".."):
            raise RequestError(f"{name!r} cannot name a file of a unit's own")
