"""What is said of a payload's command line before it runs."""

from __future__ import annotations

import pytest

from evstream.cli.payload_checks import shell_words


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ("python skim.py {input} {output} > log", [">"]),
        ("cat {input} | skim 2>&1 >{output}", ["|", "2>&1", ">{output}"]),
        ("a {input} {output} && b", ["&&"]),
        ("a < {input} {output}", ["<"]),
        ("~/skim.py {input} {output}", ["~/skim.py"]),
        ("$HOME/skim {input} {output} ${X}y $(pwd) `pwd`", None),
        ("sh -c 'cat {input} | skim > {output} && x $HOME'", []),
        ('skim --cut "pt > 20 && eta < 2" {input} {output}', []),
        ("skim --cut=pt>20 --price=5$ a~b {input} {output} \\> \\$X", []),
    ],
)
def test_words_that_only_a_shell_understands(payload: str, words: list[str] | None) -> None:
    found = shell_words(payload)
    assert found == (["$HOME/skim", "${X}y", "$(pwd)", "`pwd`"] if words is None else words)
