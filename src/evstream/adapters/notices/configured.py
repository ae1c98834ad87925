"""Notices as the settings name them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from evstream.adapters.notices.batch_system import BatchSystem
from evstream.adapters.notices.clouds import CLOUDS
from evstream.adapters.notices.site import CommandEnds, FileAppears
from evstream.domain.errors import ConfigError
from evstream.domain.payload import split_command
from evstream.ports.notice import Notices


def configured_notices(
    eviction_notice: str, metadata_url: str, environment: Mapping[str, str]
) -> tuple[Notices, ...]:
    """Return who is asked: what batch systems leave in the environment, and what is named.

    Parameters
    ----------
    eviction_notice : str
        ``file:/PATH``, ``command:WORDS``, ``aws``, ``gce``, ``azure``, or empty.
    metadata_url : str
        Of a cloud's metadata server; empty for the one that the cloud documents.

    Raises
    ------
    ConfigError
        It is none of these.
    """
    found: list[Notices] = [BatchSystem(environment)]
    how, _, what = eviction_notice.partition(":")
    if eviction_notice in CLOUDS:
        found.append(CLOUDS[eviction_notice](metadata_url))
    elif how == "file" and Path(what).is_absolute():
        found.append(FileAppears(Path(what)))
    elif how == "command" and what.strip():
        found.append(CommandEnds(split_command(what)))
    elif eviction_notice:
        raise ConfigError(
            f"eviction_notice is {eviction_notice!r}",
            hint=f"choose file:/PATH, command:WORDS, {', '.join(CLOUDS)}, or leave it empty",
        )
    return tuple(found)
