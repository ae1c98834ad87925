"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table


def print_json(value: Any) -> None:
    """Print a value as indented JSON on standard output."""
    text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    print(text)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
    """Print rows under column names; numbers stand to the right."""
    table = Table(title=title or None, title_justify="left")
    for index, column in enumerate(columns):
        numbers = all(isinstance(row[index], int | float) for row in rows) and bool(rows)
        table.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_text(value) for value in row))
    _console().print(table)


def print_pairs(pairs: Sequence[tuple[str, object]]) -> None:
    """Print names and values, one pair a line."""
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        print(f"{name:<{width}}  {_text(value)}")


def _console() -> Console:
    # Not a terminal: wide enough that no name is broken in a log.
    # Names are names, whatever brackets and colons they hold.
    literal: dict[str, Any] = {"markup": False, "emoji": False}
    return (
        Console(**literal) if sys.stdout.isatty() else Console(width=160, no_color=True, **literal)
    )


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.1f}"
    return str(value)


def size_text(size: float) -> str:
    """Return bytes in the unit that people would choose."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError("the last unit takes all")
