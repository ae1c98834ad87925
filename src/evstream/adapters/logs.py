"""What a service writes to its log: a line for each event, for people or for programs."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

from evstream.domain.errors import ConfigError

FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")
_KNOWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "color_message"}


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return what was told of an event beside its text: ids, above all."""
    return {name: value for name, value in vars(record).items() if name not in _KNOWN}


def _moment(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class TextLines(logging.Formatter):
    """A line for people; an error that nobody expected is followed by where it comes from."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        told = "".join(f" {name}={value}" for name, value in fields_of(record).items())
        text = " ".join(record.getMessage().splitlines())
        line = f"{_moment(record)} {record.levelname.lower()} {record.name}: {text}{told}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonLines(logging.Formatter):
    """An object on one line, whatever happens: what was raised is a field of it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        told = {
            "time": _moment(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **fields_of(record),
        }
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str, ensure_ascii=False)


def write_logs(form: str, level: str, stream: TextIO | None = None) -> None:
    """Have this process write its log to standard error; again is no error.

    Libraries are heard from a warning on.

    Raises
    ------
    ConfigError
        There is no such form or level.
    """
    if form not in FORMATS:
        raise ConfigError(f"log_format is {form!r}", hint=f"choose one of {', '.join(FORMATS)}")
    if level not in LEVELS:
        raise ConfigError(f"log_level is {level!r}", hint=f"choose one of {', '.join(LEVELS)}")
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("evstream").setLevel(level.upper())
