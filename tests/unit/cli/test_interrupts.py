"""An interrupt while a command is still being loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import uproot

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


TERMINATED_AT_WRITE = """
import os, signal, sys
from evstream.rootio import product

# The signal arrives while the file is written; the parts themselves are real.
read_steps = product.Product.read_steps
def signalled(self, *args, **kwargs):
    os.kill(os.getpid(), signal.{signal})
    return read_steps(self, *args, **kwargs)
product.Product.read_steps = signalled
read_into = product.Product.read_into
def signalled_into(self, *args, **kwargs):
    os.kill(os.getpid(), signal.{signal})
    return read_into(self, *args, **kwargs)
product.Product.read_into = signalled_into

sys.argv = ["evstream", *{words!r}]
from evstream.cli import main
main()
"""


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
@pytest.mark.parametrize("command", ["cut", "join"])
def test_nothing_half_is_left(command: str, name: str, code: int, tmp_path: Path) -> None:
    source = tmp_path / "in.root"
    with uproot.recreate(source) as file:
        file.mktree("t", {"x": "i4"}).extend({"x": np.arange(100)})
    output = tmp_path / "out.root"
    files = [source, output] if command == "cut" else [output, source]
    script = TERMINATED_AT_WRITE.format(signal=name, words=[command, *map(str, files)])
    done = subprocess.run(
        ["env", "--default-signal=INT,TERM", sys.executable, "-c", script],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    word = "terminated" if name == "SIGTERM" else "interrupted"
    assert (done.returncode, done.stderr) == (code, f"evstream: error: {word}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["in.root"]
