"""What a service opens source files with, and which of them."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from pathlib import Path, PurePosixPath

from evstream.adapters.source.bundled import BundledOpener
from evstream.adapters.source.fsspec import FsspecOpener
from evstream.adapters.source.guarded_http import origin_context
from evstream.adapters.source.origin_tokens import OriginTokens
from evstream.domain.source_rules import SourceRules
from evstream.ports import SourceOpener
from evstream.settings import Settings


def open_origins(settings: Settings, *, own: bool, outputs: Path | None = None) -> SourceOpener:
    """Return what opens sources.

    Parameters
    ----------
    own : bool
        The service is its user's own; see `SourceRules.parse`.
    outputs : Path, optional
        The store of outputs, which tasks in a chain read.

    Raises
    ------
    ConfigError
    """
    rules = SourceRules.parse(settings.source_roots, settings.source_networks, own=own)
    if rules.roots is not None and outputs is not None:
        rules = replace(rules, roots=(*rules.roots, PurePosixPath(outputs.resolve())))
    if settings.origin_cert_file:
        # What is wrong with it is told now, not by the first file.
        origin_context(settings.ca_file, settings.origin_cert_file)
    opener = FsspecOpener(
        rules=rules,
        ca_file=settings.ca_file,
        cert_file=settings.origin_cert_file,
        progress_s=settings.source_progress_s,
        tokens=OriginTokens.parse(settings.origin_tokens),
    )
    return BundledOpener(opener)


def is_for_this_machine(listen_at: str) -> bool:
    """Whether nobody beyond this machine comes to a place to listen at."""
    host = listen_at.rpartition(":")[0].strip("[]")
    try:
        return not listen_at or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
