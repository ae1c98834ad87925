"""Wrong words on the command line: one line says what is wrong, and where to look."""

from __future__ import annotations

import pytest

from evstream.cli.commands import main


def test_a_list_of_commands_that_is_cut_ends_in_dots(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["nothing"])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert 'Unknown command "nothing"' in said
    assert ", ...; see 'evstream --help'" in said
