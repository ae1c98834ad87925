"""Commands of batch systems, and what is wrong when they fail."""

from __future__ import annotations

import asyncio
import os

from evstream.domain.errors import ConfigError, TransientError

COMMAND_S_MAX = 120.0
"""A batch system that is overloaded answers late; one that does not answer is away."""
SAID_MAX = 500
PASSED = frozenset(("HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TZ", "USER"))
PASSED_PREFIXES = ("SLURM_", "SBATCH_", "_CONDOR_", "CONDOR_", "SGE_", "PBS_", "LSF_", "LSB_")
"""All that they get of our environment: the rest may hold secrets, and many hand it on to jobs."""


async def run_command(*words: str) -> str:
    """Run a command of a batch system and return what it printed.

    Raises
    ------
    ConfigError
        There is no such command here.
    TransientError
        It failed, or did not end. Batch systems do not tell what would fail again: whoever
        calls counts.
    """
    passed = {
        name: value
        for name, value in os.environ.items()
        if name in PASSED or name.startswith(PASSED_PREFIXES)
    }
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            env=passed,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise ConfigError(
            f"{words[0]} cannot be run: {error.strerror}",
            hint="install the batch system's commands on this machine, or choose another engine",
        ) from error
    try:
        async with asyncio.timeout(COMMAND_S_MAX):
            out, err = await process.communicate()
    except TimeoutError:
        raise TransientError(
            f"{words[0]} has not ended within {COMMAND_S_MAX:.0f} s", hint="see how it is"
        ) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        said = (err or out).decode("utf-8", "replace").strip()[-SAID_MAX:]
        raise TransientError(
            f"{words[0]} failed with exit {process.returncode}: {said}",
            hint="it is tried again; see what the batch system says",
        )
    return out.decode("utf-8", "replace").strip()
