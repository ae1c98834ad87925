"""What commands print."""

from __future__ import annotations

import pytest

from evstream.cli.printing import print_table


def test_a_table_shows_names_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["[/]", "[red]warm", ":smile:"]
    print_table(["name", "events"], [(name, 5) for name in names], title="[bold]user:x")
    printed = capsys.readouterr().out
    assert all(name in printed for name in (*names, "[bold]user:x"))
