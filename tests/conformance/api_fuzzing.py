"""The API held to its OpenAPI document: ``python -m tests.conformance.api_fuzzing``.

A service of its own is started on a loopback port: ``evstream serve``, a head, or an edge with its
head, with a dataset and a task in it. Schemathesis
sends requests that fit the document, and requests that do not; answers must be as it says.
Exits with 1 if something was found; the output says how to send it again.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from tests.spine.commands import CommandLine, wait_until, write_events

# Messages may be refused for what they mean, and a schema cannot say that. That none is refused
# for its form is a check of ours.
SETTINGS = """
hooks = "tests.conformance.api_checks"
continue-on-failure = true
max-stream-events = 1
request-timeout = 120

[checks]
positive_data_acceptance.expected-statuses = [
  "2xx", "304", "400", "403", "404", "409", "416", "422", {more}
]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", {more}]

[generation]
database = "none"
"""
REPOSITORY = Path(__file__).parents[2]
KINDS = ("serve", "head", "edge")
ELSEWHERE = '"307", "503"'
"""How a head answers who wants a product: an edge has it, or no edge is there."""
START_S = 300


def fuzz(
    kind: str, door: tuple[str, str], folder: Path, *, seconds: int, seed: int
) -> tuple[int, str]:
    """Ask a service for some seconds; return schemathesis's exit status and its output."""
    settings = folder / "schemathesis.toml"
    settings.write_text(SETTINGS.format(more=ELSEWHERE if kind == "head" else ""))
    url, token = door
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(settings), "run"]
    command += [f"{url}/v1/openapi.json", "--header", f"Authorization: Bearer {token}"]
    command += ["--max-time", str(seconds), "--seed", str(seed), "--no-color", "--warnings", "off"]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds + START_S,
        check=False,
    )
    return done.returncode, done.stdout


def start(kind: str, command: CommandLine, folder: Path) -> tuple[str, str]:
    """Start a service of one of `KINDS` with something in it; return address and token."""
    if kind == "edge":
        head, token = start("head", command, folder)
        words = ("--head", head, f"--token={token}", "--name", "edge")
        door = _open(command, folder / "edge", "edge", *words)
        # An edge without keys of a head would refuse whatever is signed before it looks at it.
        wait_until(lambda: _answers(f"{door[0]}/v1/ready", door[1]), "the edge to join")
        return door
    url, token = _open(command, folder / kind, kind)
    door = ("--url", url, f"--token={token}")
    write_events(folder / "a.root", 600)
    command.run("dataset", "add", "user:d", folder / "a.root", *door)
    command.run("submit", "user:d", "--payload", "cp {input} {output}", *door)
    return url, token


def _open(command: CommandLine, data: Path, *words: object) -> tuple[str, str]:
    """Start a command that listens; return its address and what opens it."""
    roots = {"EVSTREAM_SOURCE_ROOTS": str(data.parent)}
    process = command.start(*words, "--data", data, "--port", 0, **roots)
    published = data / "address.json"
    wait_until(lambda: published.exists() or process.poll() is not None, f"{words[0]} to start")
    assert process.poll() is None, f"{words[0]} ended"
    return json.loads(published.read_text())["url"], (data / "token").read_text().strip()


def _answers(url: str, token: str) -> bool:
    """Tell whether a GET is answered by 200."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as refused:
        refused.close()
    except OSError:
        pass
    return False


def cases_of(output: str) -> int:
    """Return how many requests schemathesis made up."""
    found = re.search(r"([\d,]+) generated", output)
    return int(found[1].replace(",", "")) if found else 0


def main() -> int:
    """Fuzz, and print what schemathesis has to say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--of", choices=KINDS, default="serve")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 32))
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = CommandLine(folder)
        try:
            door = start(given.of, command, folder)
            status, output = fuzz(given.of, door, folder, seconds=given.seconds, seed=given.seed)
        finally:
            command.end_all()
    print(output)
    return status


if __name__ == "__main__":
    sys.exit(main())
