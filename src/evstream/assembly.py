"""Where adapters meet services; embedded and production differ here and nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import uvicorn
from starlette.applications import Starlette

from evstream import daemons
from evstream.adapters.catalogue import sqlite_backup
from evstream.adapters.catalogue.data_directory import refuse_network_file_system
from evstream.adapters.catalogue.parquet_archive import ParquetArchive
from evstream.adapters.catalogue.sqlite import SqliteDatabase
from evstream.adapters.clock import SystemClock
from evstream.adapters.formats import KnownFormats, RootFormat
from evstream.adapters.ids import RandomIds
from evstream.adapters.metrics import ServiceMetrics
from evstream.adapters.offload import Threads
from evstream.adapters.payload.by_kind import PayloadsByKind
from evstream.adapters.source.fsspec import FsspecOpener
from evstream.adapters.storage.local import IDENTITY, LocalStore
from evstream.client import Address, Connection, Service, verification
from evstream.domain.errors import ConfigError, LimitError, TransientError
from evstream.domain.names import WorkerId, without_secrets
from evstream.domain.scheduling import parse_shares
from evstream.edge import Products
from evstream.edge.sources import Sources
from evstream.eventindex import FOLDER, EventFinder, Readers
from evstream.head import (
    Archiving,
    Chains,
    Claims,
    Datasets,
    Finishing,
    Merging,
    Notes,
    Nudges,
    Prepared,
    Reopening,
    Reports,
    Slices,
    Sweeping,
    Tasks,
    Turns,
)
from evstream.head.plans import Planner
from evstream.head.scheduler import Scheduler
from evstream.pilot import Pilot, PilotSettings, Tools
from evstream.ports import (
    Archive,
    Catalogue,
    Clock,
    Formats,
    Ids,
    Ledger,
    Loaded,
    Offload,
    OutputStore,
    PayloadRunner,
    ProductCatalogue,
    SourceOpener,
    TaskLocks,
    Whiteboard,
)
from evstream.ports.format import Format
from evstream.rootio import Rules
from evstream.settings import Settings
from evstream.web import Services, make_app
from evstream.wire.receipt_signature import ReceiptSigner
from evstream.wire.signed_urls import UrlSigner

if TYPE_CHECKING:
    from evstream.adapters.catalogue.postgresql import PostgresDatabase

TOKEN_FILE = "token"  # noqa: S105 - the name of a file, not a secret
SOCKET_NAME = "evstream.sock"
STORE_LOOKS = 10
"""So often a head looks whether a store is its ledger's, a tenth of a second apart."""
SOCKET_PATH_MAX = 100
"""Bytes; the kernel takes 107."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a service is made of: an answer to every port."""

    clock: Clock
    ids: Ids
    offload: Offload
    ledger: Ledger
    catalogue: Catalogue
    products: ProductCatalogue
    whiteboard: Whiteboard
    store: OutputStore
    opener: SourceOpener
    formats: Formats
    archive: Archive | None = None
    load: Loaded | None = None
    locks: TaskLocks | None = None


@dataclass(frozen=True, slots=True)
class Keys:
    """A service's secrets: 32 bytes each."""

    urls: bytes
    receipts: bytes


class Application:
    """A service without a socket: its API, its loops, and a client in-process.

    Parameters
    ----------
    token : str
        What opens the API; empty where a socket's permissions do.
    """

    def __init__(self, parts: Parts, keys: Keys, settings: Settings, token: str = "") -> None:
        self._parts = parts
        self._settings = settings
        self._token = token
        signer = UrlSigner(keys.urls)
        planner = Planner(signer, timedelta(seconds=settings.url_life_s))
        receipt_signer = ReceiptSigner(keys.receipts)
        catalogue, ledger = parts.catalogue, parts.ledger
        turns, nudges = Turns(parts.locks), Nudges()
        scheduler = Scheduler(ledger, parse_shares(settings.queue_shares))
        merging = Merging(catalogue, ledger, planner, settings.merge_inputs_max)
        datasets = Datasets(catalogue, parts.opener, parts.offload, parts.formats)
        reopening = Reopening(catalogue, ledger, merging, turns, nudges.nudge)
        chains = Chains(catalogue, ledger, merging, reopening, parts.store, datasets)
        self._finishing = Finishing(
            catalogue, ledger, merging, chains, receipt_signer, parts.offload, turns, nudges
        )
        self._sweeping = Sweeping(catalogue, ledger, parts.store, turns)
        self._products = Products(catalogue.file, Sources(parts.opener, parts.formats), parts.offload)
        slices = Slices(catalogue, planner, parts.formats)
        after = timedelta(seconds=settings.archive_after_s)
        self._archiving = Archiving(catalogue, ledger, parts.archive, turns, after)
        self.metrics = ServiceMetrics(daemons.NAMES, parts.load)
        services = Services(
            catalogue=catalogue,
            datasets=datasets,
            tasks=Tasks(catalogue, ledger, planner, parts.formats, parts.store, chains),
            claims=Claims(catalogue, ledger, planner, merging, scheduler, parts.products),
            reports=Reports(catalogue, ledger, parts.store, reopening, nudges.nudge),
            finishing=self._finishing,
            reopening=reopening,
            archiving=self._archiving,
            slices=slices,
            products=self._products,
            prepared=Prepared(parts.products, catalogue, slices),
            events=EventFinder(Path(settings.data_dir) / FOLDER, parts.offload),
            notes=Notes(parts.whiteboard, catalogue),
            store=parts.store,
            ids=parts.ids,
            metrics=self.metrics,
            receipt_key=receipt_signer.public_key,
            output_bytes_max=settings.output_bytes_max,
        )
        self.app: Starlette = make_app(services, token, signer, parts.clock)

    def loops(self) -> list[Coroutine[Any, Any, None]]:
        """Return the daemons, to be run beside the API."""
        parts, clock, meter = self._parts, self._parts.clock, self.metrics
        often, seldom = self._settings.expire_every_s, self._settings.sweep_every_s
        life = timedelta(seconds=self._settings.request_id_life_s)
        return [
            daemons.finish_tasks(self._finishing, clock, meter),
            daemons.expire_leases(parts.ledger, self._finishing.nudge, clock, meter, often),
            daemons.archive_tasks(self._archiving, clock, meter, seldom),
            daemons.sweep_outputs(self._sweeping, clock, meter, seldom),
            daemons.expire_products(parts.products, clock, meter, seldom),
            daemons.forget_request_ids(
                parts.catalogue, parts.whiteboard, life, clock, meter, seldom
            ),
        ]

    async def sweep(self) -> int:
        """Sweep the output store now; return how many objects went."""
        return await self._sweeping.sweep()

    def client(self) -> Service:
        """Return a client that speaks to the API in this process."""
        transport = httpx2.ASGITransport(self.app)
        return Service(
            Connection(
                transport,
                self._parts.clock,
                self._parts.ids,
                token=self._token,
                patience_s=self._settings.patience_s,
            )
        )

    async def close(self) -> None:
        """Stop making products and close what is open."""
        await self._products.close()


def _open_database(
    url: str, directory: Path, clock: Clock, archive: Archive
) -> SqliteDatabase | PostgresDatabase:
    """Open what keeps ledger and catalogue; the directory is this process's either way."""
    if not url:
        return SqliteDatabase(directory, clock, archive=archive)
    if not url.startswith(("postgresql://", "postgres://")):
        raise ConfigError(
            f"the catalogue {without_secrets(url)} is no PostgreSQL",
            hint="give postgresql://USER@HOST/DATABASE",
        )
    try:
        from evstream.adapters.catalogue.postgresql import PostgresDatabase
    except ImportError as problem:
        raise ConfigError(
            f"there is no driver for PostgreSQL here: {problem}",
            hint="pip install 'evstream[postgresql]'",
        ) from problem
    return PostgresDatabase(url, directory, archive=archive)


async def _require_store(catalogue: Catalogue, store: LocalStore, folder: Path) -> None:
    """Refuse a store that is not this ledger's: each has one, which all its heads share.

    Another store lacks its outputs, and another ledger's would lose its own to our sweep.
    """
    ours = secrets.token_hex(16)
    for _ in range(STORE_LOOKS):
        found = store.identity()
        known = await catalogue.output_store("" if found else ours)
        if known == ours:
            store.identify(ours)
        elif known != found:
            # Another head may be about to give the folder its id.
            await asyncio.sleep(0.1)
            continue
        return
    if known:
        share = "let outputs_dir name the folder that all heads of this ledger share"
        hint = f"{share}; if its outputs are lost for good, write {known} into {folder / IDENTITY}"
    else:
        hint = (
            "choose another outputs_dir; if they are this ledger's, restored from before it knew"
            f" its store, or nobody's any more, remove {folder / IDENTITY}"
        )
    raise ConfigError(f"{folder} is not the store that this ledger's outputs are in", hint=hint)


@asynccontextmanager
async def open_embedded(settings: Settings, *, token: str = "") -> AsyncIterator[Application]:
    """Open the embedded service of a data directory, which this process then owns.

    Raises
    ------
    ConflictError
        Another process owns the directory.
    ConfigError
        The directory cannot be used, or outputs are in another store.
    """
    directory = Path(settings.data_dir)
    clock = SystemClock()
    offload = Threads(settings.threads)
    archive_dir = Path(settings.archive_dir) if settings.archive_dir else directory / "archive"
    archive = ParquetArchive(archive_dir, offload)
    outputs_dir = Path(settings.outputs_dir) if settings.outputs_dir else directory / "outputs"
    database = _open_database(settings.catalogue, directory, clock, archive)
    try:
        store = LocalStore(outputs_dir, offload)
        await _require_store(database.catalogue, store, outputs_dir)
        parts = Parts(
            clock=clock,
            ids=RandomIds(),
            offload=offload,
            ledger=database.ledger,
            catalogue=database.catalogue,
            products=database.products,
            whiteboard=database.whiteboard,
            store=store,
            opener=FsspecOpener(),
            formats=KnownFormats(),
            archive=archive,
            load=database.load,
            locks=database.locks,
        )
        application = Application(parts, _keys(directory), settings, token)
        try:
            yield application
        finally:
            await application.close()
    finally:
        await database.close()


@asynccontextmanager
async def listen(
    application: Application, door: socket.socket, address: Address, data_dir: Path
) -> AsyncIterator[None]:
    """Serve an application on a socket while the context lasts, its loops beside it."""
    config = uvicorn.Config(
        application.app,
        log_config=None,
        access_log=False,
        lifespan="off",
        # Nobody looks at who asks: doors are opened by tokens and signatures.
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=5,
        timeout_keep_alive=75,
    )
    server = _Server(config)
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(server.serve(sockets=[door]))
        loops = [group.create_task(loop) for loop in application.loops()]
        with address.published(data_dir):
            try:
                yield
            finally:
                for loop in loops:
                    loop.cancel()
                server.should_exit = True
                await serving
                if address.url.startswith("unix:"):
                    _remove_socket(data_dir / SOCKET_NAME)


class _Server(uvicorn.Server):
    """A server that leaves the signals to whoever started it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


def _remove_socket(path: Path) -> None:
    """Remove a data directory's socket, or the link to it, wherever it leads."""
    if path.is_symlink():
        place = path.readlink()
        if place.is_socket():
            with contextlib.suppress(OSError):
                place.unlink()
                place.parent.rmdir()
    path.unlink(missing_ok=True)


def unix_door(data_dir: Path) -> tuple[socket.socket, Address]:
    """Return a Unix socket that its owner alone may connect to, and its address.

    The caller owns the data directory, so that a socket left there is nobody's. Where
    the path is too long for a socket, it lies elsewhere, and a link leads to it.
    """
    path = place = data_dir / SOCKET_NAME
    _remove_socket(path)
    if len(os.fsencode(path)) > SOCKET_PATH_MAX:
        # A batch job's own folder for temporary files can be as deep.
        deep = len(os.fsencode(tempfile.gettempdir())) > SOCKET_PATH_MAX // 2
        # mkdtemp makes a folder that is its owner's alone, wherever that is.
        parent = "/tmp" if deep else None  # noqa: S108
        place = Path(tempfile.mkdtemp(prefix="evstream-", dir=parent)) / SOCKET_NAME
        path.symlink_to(place)
    door = socket.socket(socket.AF_UNIX)
    # The mode is set before anybody can find the socket, not after.
    before = os.umask(0o177)
    try:
        door.bind(str(place))
    finally:
        os.umask(before)
    door.listen(256)
    return door, Address(f"unix:{place}")


def tcp_door(port: int) -> tuple[socket.socket, str]:
    """Return a TCP socket on the loopback interface, and its URL.

    From now on the port is ours; who connects waits until somebody serves.

    Raises
    ------
    ConfigError
        The port is taken, or may not be used.
    """
    if not 0 <= port <= 65535:
        raise LimitError(f"there is no port {port}", hint="choose one from 0 to 65535")
    door = socket.socket(socket.AF_INET)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        door.bind(("127.0.0.1", port))
    except OSError as error:
        door.close()
        raise ConfigError(
            f"cannot listen on port {port}: {error.strerror}",
            hint="choose another with --port, or 0 for any",
        ) from error
    door.listen(256)
    return door, f"http://127.0.0.1:{door.getsockname()[1]}"


def door_token(data_dir: Path) -> str:
    """Return the token of a data directory's TCP door, made on first use.

    Raises
    ------
    ConfigError
        The directory is on a network file system: nothing is made there.
    """
    refuse_network_file_system(data_dir)
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    return _secret(data_dir / TOKEN_FILE, lambda: secrets.token_urlsafe(32).encode()).decode()


def _keys(data_dir: Path) -> Keys:
    folder = data_dir / "keys"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Keys(
        urls=_secret(folder / "urls", lambda: secrets.token_bytes(32)),
        receipts=_secret(folder / "receipts", lambda: secrets.token_bytes(32)),
    )


def _secret(path: Path, make: Callable[[], bytes]) -> bytes:
    """Return a file's content, made first where there is none; for its owner's eyes.

    Raises
    ------
    TransientError
        No space is left for it.
    ConfigError
        It cannot be written or read.
    """
    try:
        if not path.exists():
            _write_secret(path, make())
        return path.read_bytes()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise TransientError(
                f"no space is left for {path}", hint="free space on its disk"
            ) from error
        raise ConfigError(
            f"{path} cannot be used: {error.strerror}", hint="look at the folder's owner and mode"
        ) from error


def _write_secret(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def back_up_catalogue(settings: Settings, target: Path) -> int:
    """Write the ledger's file, as it is now, to another; return its bytes."""
    _require_file(settings, "back it up with pg_dump")
    return sqlite_backup.back_up(Path(settings.data_dir), target)


def restore_catalogue(settings: Settings, backup: Path) -> Path | None:
    """Put a backup in place of the ledger's file; return where that is now, if it was there."""
    _require_file(settings, "restore it with pg_restore")
    return sqlite_backup.restore(backup, Path(settings.data_dir))


def _require_file(settings: Settings, hint: str) -> None:
    if settings.catalogue:
        raise ConfigError(
            "the setting 'catalogue' says that the ledger is in a database server", hint=hint
        )


def make_formats() -> Formats:
    """Return the formats of files that there are."""
    return KnownFormats()


def make_readers() -> Readers:
    """Return what the event index reads files with."""
    return Readers(KnownFormats(), FsspecOpener())


def verify_receipt(
    path: Path,
    outputs: Path | None = None,
    trusted_key: str = "",
    sources: Path | None = None,
    names: tuple[str, ...] = (),
    parents: Sequence[Path] = (),
) -> list[verification.Level]:
    """Verify a receipt offline, as `evstream.client.verification` says."""
    return verification.verify_receipt(
        path, make_formats(), outputs, trusted_key, sources, names, parents
    )


def make_root_format(rules: Mapping[str, str]) -> Format:
    """Return the ROOT format with rules for what is beside the events.

    Raises
    ------
    RequestError
        A name that is no rule.
    """
    return RootFormat(Rules.of(rules))


def connect(address: Address, patience_s: float) -> Service:
    """Return a client of the service at an address."""
    return Service(
        Connection(
            address.transport(),
            SystemClock(),
            RandomIds(),
            base_url=address.base_url,
            token=address.token,
            patience_s=patience_s,
        )
    )


def make_pilot(
    service: Service,
    settings: PilotSettings,
    directory: Path,
    worker: WorkerId,
    runner: PayloadRunner | None = None,
) -> Pilot:
    """Return a pilot that works for a service; payloads are processes unless said otherwise."""
    return Pilot(
        service,
        Tools(
            runner or PayloadsByKind(settings.cores),
            KnownFormats(),
            Threads(max(4, settings.cores)),
            FsspecOpener(),
        ),
        SystemClock(),
        RandomIds(),
        settings,
        directory,
        worker,
    )
