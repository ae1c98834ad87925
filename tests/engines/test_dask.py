"""``evstream pilots`` with a real Dask."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from evstream.adapters.engines import dask_worker
from evstream.adapters.engines.dask import ByValue, DaskEngine, DaskPlace
from evstream.domain.errors import ConfigError, RequestError
from tests.engines.dask import dask
from tests.engines.jobs import SLOW, logs, of_task, service_with_task, wait_for_logs
from tests.spine.commands import CommandLine, wait_until

pytestmark = pytest.mark.server


def test_pilots_are_tasks_of_dask_and_are_found_again(
    command: CommandLine, tmp_path: Path, events: Path
) -> None:
    data = service_with_task(command, tmp_path, events, SLOW, size=20)
    folder = tmp_path / "evstream-pilots"
    with dask(tmp_path / "dask") as cluster:
        cluster.add_worker()
        words = ["pilots", "--engine", "dask", "--scheduler", cluster.file, "--n", 1]
        words += ["--resource", "pilot=1", "--data", data]
        first = command.start(*words)
        wait_until(lambda: of_task(command, data)["process"]["finished"] > 0, "events")
        # Dask forgets the task with who asked for it; the pilot runs on in its worker.
        command.end(first, signal.SIGKILL)
        kept = command.run(*words, "--until-done", "--json")
    assert of_task(command, data)["state"] == "done", kept.stderr
    assert len(logs(folder)) == 1, kept.stderr
    assert not [*(folder / "pilots").iterdir()]


def test_a_lost_worker_is_told_and_another_takes_its_pilots_place(
    command: CommandLine, tmp_path: Path, events: Path
) -> None:
    data = service_with_task(command, tmp_path, events, SLOW, size=5)
    folder = tmp_path / "evstream-pilots"
    with dask(tmp_path / "dask") as cluster:
        worker = cluster.add_worker()
        words = ["--engine", "dask", "--scheduler", cluster.file, "--data", data]
        keeper = command.start("pilots", *words)
        wait_until(lambda: of_task(command, data)["process"]["finished"] > 0, "events")
        worker.kill()
        cluster.add_worker()
        wait_for_logs(folder, 2, keeper)
        before = of_task(command, data)["process"]["finished"]
        wait_until(lambda: of_task(command, data)["process"]["finished"] > before, "events")
        assert command.end(keeper, signal.SIGTERM) == 143
    assert of_task(command, data)["process"]["running"] == 0
    assert not [*(folder / "pilots").iterdir()]


def test_a_cluster_is_made_and_ended(command: CommandLine, tmp_path: Path, events: Path) -> None:
    data = service_with_task(command, tmp_path, events)
    words = ["pilots", "--engine", "dask", "--cluster", "distributed:LocalCluster"]
    words += ["--option", "threads_per_worker=1", "--option", "dashboard_address=:0"]
    kept = command.json(*words, "--until-done", "--data", data)
    assert of_task(command, data)["state"] == "done"
    assert kept["failed"] == 0


@pytest.mark.anyio
async def test_what_is_no_cluster_is_told(tmp_path: Path) -> None:
    engine = DaskEngine(tmp_path, "pilot", DaskPlace(cluster="distributed:NoCluster"))
    with pytest.raises(ConfigError, match="distributed:NoCluster cannot be made"):
        await engine.open()
    with pytest.raises(RequestError, match="not both"):
        DaskEngine(tmp_path, "pilot", DaskPlace())


def test_workers_need_no_evstream() -> None:
    sent = pickle.dumps(ByValue(dask_worker.list_pilots))
    code = "import sys, pickle; sys.modules['evstream'] = None; "
    code += "worker = type('Worker', (), {})(); worker.evstream_pilots = {'p': 1}; "
    code += "print(pickle.load(sys.stdin.buffer)(worker))"
    done = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, check=True)
    assert done.stdout.split() == [b"['p']"]
