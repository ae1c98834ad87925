"""The API held to its OpenAPI document: ``python -m tests.conformance.api_fuzzing``.

A service of its own is served on a loopback port, with a dataset and a task in it. Schemathesis
sends requests that fit the document, and requests that do not; answers must be as it says.
Exits with 1 if something was found; the output says how to send it again.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.spine.commands import CommandLine, write_events

# Messages may be refused for what they mean, and a schema cannot say that. That none is refused
# for its form is a check of ours.
SETTINGS = """
hooks = "tests.conformance.api_checks"
continue-on-failure = true
max-stream-events = 1
request-timeout = 120

[checks]
positive_data_acceptance.expected-statuses = [
  "2xx", "304", "400", "403", "404", "409", "416", "422",
]

[generation]
database = "none"
"""
REPOSITORY = Path(__file__).parents[2]
START_S = 300


def fuzz(url: str, token: str, folder: Path, *, seconds: int, seed: int) -> tuple[int, str]:
    """Ask a service for some seconds; return the exit status of schemathesis and its output."""
    settings = folder / "schemathesis.toml"
    settings.write_text(SETTINGS)
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


def serve(command: CommandLine, folder: Path) -> tuple[str, str]:
    """Serve a data directory with something in it; return address and token."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = folder / "data"
    command.serve(data, "--port", port)
    write_events(folder / "a.root", 600)
    command.run("dataset", "add", "user:d", folder / "a.root", "--data", data)
    command.run("submit", "user:d", "--payload", "cp {input} {output}", "--data", data)
    return f"http://127.0.0.1:{port}", (data / "token").read_text().strip()


def cases_of(output: str) -> int:
    """Return how many requests schemathesis made up."""
    found = re.search(r"([\d,]+) generated", output)
    return int(found[1].replace(",", "")) if found else 0


def main() -> int:
    """Fuzz, and print what schemathesis has to say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 32))
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = CommandLine(folder)
        try:
            url, token = serve(command, folder)
            status, output = fuzz(url, token, folder, seconds=given.seconds, seed=given.seed)
        finally:
            command.end_all()
    print(output)
    return status


if __name__ == "__main__":
    sys.exit(main())
