"""How a payload's process is started, and what is said of how it ended."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from evstream.adapters.payload.child import Child, Ended
from evstream.domain.errors import ConfigError, EvstreamError, PayloadError, TransientError
from evstream.domain.payload import Payload
from evstream.domain.streams import variable_of

ENVIRONMENT_PREFIX = "EVSTREAM_"
CREDENTIALS = frozenset(
    {
        "BEARER_TOKEN",
        "BEARER_TOKEN_FILE",
        "X509_USER_PROXY",
        "X509_USER_CERT",
        "X509_USER_KEY",
        "KRB5CCNAME",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "PGPASSWORD",
        "PGPASSFILE",
    }
)
"""Variables that hold or name what opens doors for whoever runs us: not for its payloads."""
_FOR_CONTAINERS = ("APPTAINERENV_", "SINGULARITYENV_")
"""What follows is set in containers."""
CONTAINER_PROGRAMS = ("apptainer", "singularity")
CONTAINER_PATHS = ("APPTAINERENV_PREPEND_PATH", "SINGULARITYENV_PREPEND_PATH")
"""Variables that say what is searched for programs in a container before its own PATH."""
BUNDLE_VARIABLE = "EVSTREAM_BUNDLE"
"""Names the folder of libraries of the bundle that we run from, which is first in PYTHONPATH.

Commands have libraries of their own, which ours must not come before.
"""
_NODE_AT_FAULT = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC}


@cache
def dies_with_us() -> tuple[str, ...]:
    """Return the words that make a command die with this process, if the system has them."""
    program = shutil.which("setpriv")
    if program is None:
        return ()
    words = (program, "--pdeathsig", "KILL", "--")
    probe = subprocess.run((*words, "true"), capture_output=True, check=False)
    return words if probe.returncode == 0 else ()


def start(
    words: list[str],
    payload: Payload,
    values: Mapping[str, str],
    directory: Path,
    log: Path,
    keeps: Sequence[int] = (),
) -> Child:
    """Start a payload's process.

    Parameters
    ----------
    values : mapping of str to str
        Variables of its environment, without ``EVSTREAM_`` in front.
    keeps : sequence of int
        Descriptors that it is to have.

    Raises
    ------
    PayloadError
        It cannot be started.
    ConfigError
        This node has no such program, or nothing that runs containers.
    TransientError
        Nothing can be started here at the moment.
    """
    surroundings = environment(payload, values)
    if payload.container:
        words = _in_container(payload.container, words, directory)
        if "sandbox" in values:
            # In there, PATH is the image's own, whatever it is out here.
            for name in CONTAINER_PATHS:
                surroundings[name] = _first(values["sandbox"], surroundings, name)
        surroundings["PYTHONPATH"] = _first(_helper_package(directory), surroundings, "PYTHONPATH")
    program = _find_program(words[0], directory, surroundings, values.get("sandbox"))
    try:
        return Child((*dies_with_us(), program, *words[1:]), directory, surroundings, log, keeps)
    except (OSError, ValueError) as error:
        raise not_started(program, error) from error


def environment(payload: Payload, values: Mapping[str, str]) -> dict[str, str]:
    """Return a payload's environment: ours without our own settings and credentials."""
    kept = {name: value for name, value in os.environ.items() if not _is_ours(name)}
    if payload.kind != "callable" and BUNDLE_VARIABLE in os.environ:
        _take_out(os.environ[BUNDLE_VARIABLE], kept, "PYTHONPATH")
    named = {ENVIRONMENT_PREFIX + variable_of(name): value for name, value in values.items()}
    found = kept | payload.environment | named
    if "sandbox" in values:
        for name in ("PATH", "PYTHONPATH"):
            found[name] = _first(values["sandbox"], found, name)
    return found


def _is_ours(name: str) -> bool:
    for prefix in _FOR_CONTAINERS:
        name = name.removeprefix(prefix)
    return name.startswith(ENVIRONMENT_PREFIX) or name in CREDENTIALS


def _take_out(folder: str, variables: dict[str, str], name: str) -> None:
    """Leave out a folder of a search path."""
    folders = [one for one in variables.get(name, "").split(os.pathsep) if one != folder]
    variables[name] = os.pathsep.join(folders)
    if not variables[name]:
        del variables[name]


def _first(folder: str, variables: Mapping[str, str], name: str) -> str:
    """Return a search path with a folder in front."""
    return os.pathsep.join([folder, variables[name]] if variables.get(name) else [folder])


def _in_container(image: str, words: list[str], directory: Path) -> list[str]:
    """Return the words that run words in a container, with the pilot's folders in it.

    Raises
    ------
    ConfigError
        This node has nothing that runs containers.
    """
    for name in CONTAINER_PROGRAMS:
        if program := shutil.which(name):
            bind = ["--bind", os.fspath(directory.parent), "--pwd", os.fspath(directory)]
            return [program, "exec", *bind, image, *words]
    raise ConfigError(
        f"this node has no Apptainer to run {image} with",
        hint="see 'evstream doctor', or run pilots on nodes that have it",
    )


def _helper_package(directory: Path) -> str:
    """Leave `evstream.payload` where Pythons in a container find it; return the folder.

    The image need not have evstream: the package needs nothing but Python.
    """
    import evstream.payload

    library = directory.parent / "payload-library"
    package = library / "evstream" / "payload"
    if not package.exists():
        with tempfile.TemporaryDirectory(dir=directory.parent) as folder:
            source = Path(evstream.payload.__file__).parent
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, Path(folder, "lib", "evstream", "payload"), ignore=ignored)
            # Another unit may have been first.
            with contextlib.suppress(OSError):
                Path(folder, "lib").rename(library)
    return os.fspath(library)


def _find_program(
    program: str, directory: Path, environment: dict[str, str], sandbox: str | None
) -> str:
    """Return the path of a program, found as a shell would find it.

    Raises
    ------
    ConfigError
        This node has none; another may.
    PayloadError
        It may not be executed, or the sandbox lacks it, which is the same on every node.
    """
    if "/" in program:
        found: str | None = os.fspath(directory / program)
    else:
        found = shutil.which(program, path=environment.get("PATH", os.defpath))
    if found is None or not Path(found).is_file():
        folders = [directory, *([Path(sandbox)] if sandbox else [])]
        if any(Path(found or "/").is_relative_to(folder) for folder in folders):
            raise PayloadError(
                f"payload {program} is not there",
                hint="give a program on the PATH or an absolute path",
                program=program,
                cpu_s=0.0,
                wall_s=0.0,
            )
        raise ConfigError(
            f"payload {program} is not there on this node",
            hint="give a program on the PATH or an absolute path",
            program=program,
        )
    if not os.access(found, os.X_OK):
        raise PayloadError(
            f"payload {program} is not executable",
            hint=f"run 'chmod +x {program}', or name its interpreter first",
            program=program,
            cpu_s=0.0,
            wall_s=0.0,
        )
    return found


def not_started(program: str, error: OSError | ValueError) -> EvstreamError:
    """Return the error that says why a program could not be started."""
    what = str(error)
    if isinstance(error, OSError):
        what = error.strerror or what
        if error.errno in _NODE_AT_FAULT:
            return TransientError(
                f"no payload can be started here: {what}", hint="run fewer at once"
            )
    hint = "check the command line"
    if isinstance(error, OSError) and error.errno == errno.ENOEXEC:
        hint = "begin it with a line such as '#!/bin/sh', or name its interpreter first"
    return PayloadError(
        f"payload {program} cannot be started: {what}",
        hint=hint,
        program=program,
        cpu_s=0.0,
        wall_s=0.0,
    )


def how_it_ended(ended: Ended) -> tuple[str, str]:
    """Say how a process ended that was to end otherwise, and what to do about it."""
    status = ended.exit_status
    if status >= 0:
        return f"exited with status {status}", "see its log"
    if status == -signal.SIGKILL:
        hint = "see its log, and whether the machine ran out of memory"
        return f"was killed by {_signal_name(-status)}", hint
    return f"was killed by {_signal_name(-status)}", "see its log"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
