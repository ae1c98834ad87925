"""A Slurm of the test's own: one node, on loopback ports, from a folder of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.stack.processes import Daemon, wait_until

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue")

_CONFIG = """\
ClusterName=evtest
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_min_interval=10000
ReturnToService=2
KillWait=10
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName={host} NodeAddr=127.0.0.1 CPUs=8
PartitionName=test Nodes={host} Default=YES State=UP
"""


def skip_without_slurm() -> None:
    """Skip the test where there is none, or we may not run it."""
    missing = [name for name in NEEDED if shutil.which(name, path=_path()) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)} (as root: apt-get install slurm-wlm munge)")
    if os.geteuid() != 0:
        pytest.skip("only root runs a Slurm that starts jobs")


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


@contextmanager
def slurm() -> Iterator[dict[str, str]]:
    """Start a Slurm; gives what its commands find it by, for an environment."""
    skip_without_slurm()
    folder = Path(tempfile.mkdtemp(prefix="evslurm-", dir="/tmp"))
    folder.chmod(0o755)
    environment = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": _path()}
    daemons: list[Daemon] = []
    try:
        _configure(folder)
        for daemon in _daemons(folder, environment):
            daemons.append(daemon)
            daemon.start()
        yield environment
    finally:
        with_jobs = {**os.environ, **environment}
        subprocess.run(["scancel", "--me"], env=with_jobs, capture_output=True, check=False)
        for daemon in reversed(daemons):
            daemon.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _configure(folder: Path) -> None:
    host = socket.gethostname().partition(".")[0]
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(secrets.token_bytes(1024))
    (folder / "munge.key").chmod(0o400)
    ports = {"controller_port": free_port(), "node_port": free_port()}
    text = _CONFIG.format(host=host, folder=folder, **ports)
    (folder / "slurm.conf").write_text(text)


def _daemons(folder: Path, environment: dict[str, str]) -> Iterator[Daemon]:
    def asks(*words: str, says: str = "") -> bool:
        done = subprocess.run(
            words, env={**os.environ, **environment}, capture_output=True, text=True, check=False
        )
        return done.returncode == 0 and says in done.stdout

    files = [f"--{what}-file={folder}/munge.{what}" for what in ("key", "pid", "log", "seed")]
    munged = ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *files]
    yield Daemon(munged, folder / "munged.out", (folder / "munge.socket").exists, environment)
    controller = ["slurmctld", "-D", "-f", folder / "slurm.conf"]
    yield Daemon(
        controller, folder / "slurmctld.out", lambda: asks("scontrol", "ping"), environment
    )
    node = ["slurmd", "-D", "-f", folder / "slurm.conf"]
    yield Daemon(
        node,
        folder / "slurmd.out",
        lambda: asks("sinfo", "--noheader", "--format=%T", says="idle"),
        environment,
    )


def wait_for_no_job(environment: dict[str, str]) -> None:
    """Wait until Slurm has nothing more of ours."""

    def empty() -> bool:
        words = ["squeue", "--me", "--noheader"]
        listed = subprocess.run(
            words, env={**os.environ, **environment}, capture_output=True, text=True, check=True
        )
        return not listed.stdout.strip()

    wait_until(empty, "the end of all jobs")
