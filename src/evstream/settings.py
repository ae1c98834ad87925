"""Settings: flag > environment ``EVSTREAM_*`` > file > default, and where each came from.

The file is TOML, ``evstream/config.toml`` in the user's configuration folder, or what
``EVSTREAM_CONFIG`` names. Units end the names.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import msgspec
import platformdirs

from evstream.domain.errors import ConfigError

PREFIX = "EVSTREAM_"
CONFIG_VARIABLE = "EVSTREAM_CONFIG"


def _setting(default: Any, doc: str, low: float | None = None, high: float | None = None) -> Any:
    return field(default=default, metadata={"doc": doc, "low": low, "high": high})


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set, with its default and bounds."""

    data_dir: str = _setting(
        platformdirs.user_data_dir("evstream"), "Folder of the embedded service"
    )
    catalogue: str = _setting(
        "", "Database of ledger and catalogue: postgresql://...; empty: a file in the data folder"
    )
    url: str = _setting("", "Address of the service: http://HOST:PORT or unix:/PATH")
    token: str = _setting("", "Bearer token for the service")
    token_file: str = _setting("", "File that holds it, read again when it changes")
    ca_file: str = _setting(
        "", "Authorities to trust beside the system's: a PEM file, or a folder of hashed ones"
    )
    listen: str = _setting("", "Where to listen instead of a Unix socket: HOST:PORT")
    tls_cert_file: str = _setting("", "Certificate of the service, with its chain, in PEM")
    tls_key_file: str = _setting("", "Private key of that certificate, in PEM")
    head: str = _setting("", "Address of the head that an edge belongs to: http(s)://HOST:PORT")
    edge_name: str = _setting("", "Name of this edge")
    edge_url: str = _setting("", "Where clients reach this edge; default where it listens")
    site: str = _setting("", "Where this edge or pilot is, such as an RSE's name")
    beat_s: float = _setting(5.0, "How often an edge tells its head that it is there", 0.05, 600.0)
    cache: str = _setting("", "Where an edge keeps products: a folder, or s3://BUCKET/PREFIX")
    cache_bytes_max: int = _setting(100 << 30, "Disk for products of an edge", 1 << 20, 1 << 60)
    access_log: str = _setting("", "File that an edge writes requests for products to")
    access_log_bytes_max: int = _setting(
        1 << 30, "Size at which it begins a new one", 1 << 16, 1 << 50
    )
    accel_location: str = _setting("", "Where nginx before an edge has its cache's folder")
    information_s: float = _setting(
        300.0, "How long an edge believes what the head told of a file", 1.0, 86_400.0
    )
    precache: str = _setting(
        "never", "Whether an edge copies source files whole: never, auto or always"
    )
    own_cuts: str = _setting(
        "auto", "Whether a pilot cuts out of sources itself where no edge does: auto or never"
    )
    node_cache: str = _setting("", "Folder where pilots of one node share products")
    node_cache_bytes_max: int = _setting(
        20 << 30, "Disk for what pilots of one node share", 1 << 20, 1 << 60
    )
    source_progress_s: float = _setting(
        60.0, "How long an origin may send nothing before it is taken for dead", 1.0, 3600.0
    )
    source_roots: str = _setting(
        "", "Folders of local files that a service opens, with ':' between, or any"
    )
    source_networks: str = _setting(
        "", "Networks that are not public, of URLs that a service opens: 10.1.0.0/16, or any"
    )
    origin_cert_file: str = _setting(
        "", "Client certificate or X.509 proxy that is shown to origins, with its key, in PEM"
    )
    origin_tokens: str = _setting(
        "", "Files of tokens that are shown to origins, as in 'HOST=/FILE HOST:PORT=/FILE'"
    )
    token_issuers: str = _setting("", "URLs of the issuers whose tokens are taken")
    token_audience: str = _setting("", "Names of this service in their tokens")
    token_roles: str = _setting(
        "scope:compute.create=submitter",
        "Roles of scopes, groups and subjects, as in 'group:/evstream/pilots=pilot'",
    )
    patience_s: float = _setting(
        10.0, "How long a command tries to reach the service", 0.0, 86_400.0
    )
    cores: int = _setting(1, "Payloads that a pilot runs at once", 1, 4096)
    lease_s: float = _setting(60.0, "Life of a lease that is not renewed", 1.0, 86_400.0)
    pilot_patience_s: float = _setting(
        600.0, "How long a pilot goes on while the service is away", 0.0, 86_400.0
    )
    pilot_idle_s_max: float = _setting(
        60.0, "How long a pilot waits where no task is active", 0.0, 31_536_000.0
    )
    prefetch_bytes_max: int = _setting(
        2 << 30, "Disk for inputs that are fetched ahead", 1 << 20, 1 << 50
    )
    walltime_s: float = _setting(
        0.0, "How long a pilot may live; 0: as long as its batch system says", 0.0, 1e9
    )
    pilot_steps: str = _setting(
        "", "An experiment's steps of a pilot: name of an entry point, or module:Class"
    )
    eviction_notice: str = _setting(
        "", "Who says that a node is to be left: file:/PATH, command:WORDS, aws, gce or azure"
    )
    metadata_url: str = _setting("", "URL of a cloud's metadata server; default the usual one")
    drain_s: float = _setting(5.0, "Time for running payloads when a pilot is stopped", 0.0, 1e6)
    expire_every_s: float = _setting(1.0, "How often expired leases are taken back", 0.05, 3600.0)
    sweep_every_s: float = _setting(60.0, "How often uncommitted outputs are swept", 1.0, 86_400.0)
    cross_check_every: int = _setting(
        100, "Of so many products a second edge makes one anew, to compare; 0 for none", 0, 10**9
    )
    url_life_s: float = _setting(86_400.0, "Life of a signed URL", 60.0, 31_536_000.0)
    # Never less than what comes with a report.
    output_bytes_max: int = _setting(
        128 << 30, "Size of one output that a service stores", 16 << 10, 1 << 50
    )
    merge_inputs_max: int = _setting(2000, "Outputs that one merge joins", 2, 100_000)
    outputs_dir: str = _setting("", "Folder of the output store; default outputs in data_dir")
    output_store: str = _setting(
        "", "URL of the output store: s3://, root(s):// or dav(s)://; default a folder"
    )
    output_store_fallback: str = _setting(
        "", "URL or folder of a second one, for what cannot be written to the first"
    )
    staged_bytes_max: int = _setting(
        8 << 30, "Disk of a pilot for outputs on their way to the store", 1 << 20, 1 << 50
    )
    store_s_max: float = _setting(
        30.0, "How long a pilot tries one place for an output before the next", 0.0, 86_400.0
    )
    archive_dir: str = _setting("", "Folder of archived tasks; default archive in data_dir")
    archive_after_s: float = _setting(
        0.0, "How long after its end a task is archived; 0 for never by itself", 0.0, 1e10
    )
    # No less than a client's patience: until then the same request may come again.
    request_id_life_s: float = _setting(
        604_800.0,
        "How long after a task's end or a note's change its id gives it again",
        86_400.0,
        1e10,
    )
    queue_shares: str = _setting(
        "",
        "Shares of queues in the workers, as in 'production=3 analysis=1'; 1 where none is given",
    )
    log_format: str = _setting("text", "Lines of a service's log: text, or json for programs")
    log_level: str = _setting(
        "info", "What a service's log tells at least: debug, info, warning or error"
    )
    # They wait for sources about as long as they compute.
    makers: int = _setting(
        max(4, os.cpu_count() or 1), "Products that an edge makes at once", 1, 512
    )
    on_demand_share: float = _setting(
        0.25, "Share of the makers that is reserved for products somebody waits for", 0.0, 1.0
    )
    on_demand_depth: int = _setting(
        100, "Products that may wait for a maker on demand; more is refused", 0, 100_000
    )
    # They wait for disks more than they compute, and the disk commits in groups.
    threads: int = _setting(
        max(16, 2 * (os.cpu_count() or 1)), "Threads for cutting and file work", 1, 1024
    )


@dataclass(frozen=True, slots=True)
class Resolved:
    """Settings, and for each the place that it came from."""

    settings: Settings
    origins: dict[str, str]


def config_path(environment: Mapping[str, str]) -> Path:
    """Return where the configuration file is looked for."""
    named = environment.get(CONFIG_VARIABLE)
    return Path(named) if named else Path(platformdirs.user_config_dir("evstream")) / "config.toml"


def resolve(flags: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> Resolved:
    """Put settings together.

    Parameters
    ----------
    flags : mapping
        What the command line says; values of None were not given.

    Raises
    ------
    ConfigError
        The file cannot be read, a name is unknown, or a value does not fit.
    """
    path = config_path(environment)
    from_file = _read_file(path, required=CONFIG_VARIABLE in environment)
    known = {item.name: item for item in fields(Settings)}
    for name in from_file:
        if name not in known:
            raise ConfigError(
                f"{path}: there is no setting {name!r}",
                hint="see 'evstream config show'",
            )
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name, item in known.items():
        variable = PREFIX + name.upper()
        if flags.get(name) is not None:
            value, origin = flags[name], "flag"
        elif variable in environment:
            value, origin = environment[variable], variable
        elif name in from_file:
            value, origin = from_file[name], str(path)
        else:
            value, origin = item.default, "default"
        values[name] = _convert(name, value, origin, item.metadata)
        origins[name] = origin
    return Resolved(Settings(**values), origins)


def _read_file(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if required:
            raise ConfigError(
                f"{path} does not exist", hint=f"create it or unset {CONFIG_VARIABLE}"
            ) from None
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}", hint="mend the file") from error


def _convert(name: str, value: Any, origin: str, bounds: Mapping[str, Any]) -> Any:
    kind: Any = {"str": str, "int": int, "float": float}[Settings.__annotations__[name]]
    try:
        converted: Any = msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{name} from {origin}: {error}", hint="give another value") from error
    low, high = bounds["low"], bounds["high"]
    if low is not None and not low <= converted <= high:
        raise ConfigError(
            f"{name} from {origin} is {converted}",
            hint=f"give a value from {low} to {high}",
        )
    return converted
