"""An interrupt while a command is still being loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest

INTERRUPTED_AT_IMPORT = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
sys.argv = ["evstream", "doctor"]
from evstream.cli import main
{before}
main()
"""


def interrupt_at(module: str, before: str = "") -> subprocess.CompletedProcess[str]:
    code = INTERRUPTED_AT_IMPORT.format(module=module, before=before)
    # Whoever started the tests in the background may have left interrupts ignored.
    command = ["env", "--default-signal=INT", sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("module", ["cyclopts", "evstream.domain.errors"])
def test_it_ends_quietly(module: str) -> None:
    done = interrupt_at(module)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_one_that_comes_later_is_told() -> None:
    done = interrupt_at("evstream.cli.doctor")
    assert (done.returncode, done.stderr) == (130, "evstream: error: interrupted\n")


def test_who_ignores_interrupts_is_not_interrupted() -> None:
    done = interrupt_at("cyclopts", "signal.signal(signal.SIGINT, signal.SIG_IGN)")
    assert done.stdout
    assert "interrupted" not in done.stderr
