"""What is said of a payload's command line before it runs."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from evstream.cli.payload_checks import (
    check_staged_files,
    shell_words,
    warn_of_unnamed_outputs,
)
from evstream.domain.errors import RequestError
from evstream.domain.payload import Payload, StagedFile
from evstream.domain.streams import OutputStream


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


def test_files_that_can_be_seen_are_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, digest = tmp_path / "x.db", hashlib.sha256(b"x").hexdigest()
    place.write_bytes(b"x")

    def check(pfn: Path | str, sha256: str, *, here: bool) -> None:
        payload = Payload("a {input} {output}", files=(StagedFile("x", str(pfn), sha256),))
        check_staged_files(payload, here=here)

    for here in (True, False):
        check(place, digest, here=here)
        check("https://example.org/x.db", digest, here=here)
        with pytest.raises(RequestError, match=digest):
            check(place, "0" * 64, here=here)
    assert not capsys.readouterr().err
    with pytest.raises(RequestError, match="is not read"):
        check(tmp_path / "none", digest, here=True)
    check(tmp_path / "none", digest, here=False)
    assert "pilots must have it" in capsys.readouterr().err


def test_outputs_that_a_payload_may_not_know_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    streams = [OutputStream(), OutputStream("re-port", ".txt")]
    streams += [OutputStream("h", pattern="h*.root"), OutputStream("o", optional=True)]
    for told in ("{output:re-port}", "$EVSTREAM_OUTPUT_RE_PORT"):
        warn_of_unnamed_outputs(streams, Payload(f"sh -c 'a {{input}} {{output}} {told}'"))
    warn_of_unnamed_outputs(streams, Payload("a.py:f", kind="callable"))
    assert not capsys.readouterr().err
    warn_of_unnamed_outputs(streams, Payload("cp {input} {output}"))
    (line,) = capsys.readouterr().err.splitlines()
    assert "{output:re-port}" in line
    assert "$EVSTREAM_OUTPUT_RE_PORT" in line
