"""Notices of eviction: what clouds, batch systems and sites say, and what is understood of it."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from evstream.adapters.notices import (
    Aws,
    Azure,
    BatchSystem,
    CommandEnds,
    FileAppears,
    Gce,
    configured_notices,
)
from evstream.domain.errors import ConfigError, TransientError
from evstream.ports import Notice, Notices
from tests.spine.commands import wait_until


class MetadataServer:
    """Answers paths by functions of the request's headers; notes what was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[dict[str, str]], tuple[int, str]]] = {}
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(f"{self.command} {self.path}")
                answer = outer.answers.get(f"{self.command} {self.path}")
                headers = {name.lower(): value for name, value in self.headers.items()}
                status, text = answer(headers) if answer else (404, "")
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            do_PUT = do_GET  # noqa: N815 - its name in the base class

            def log_message(self, *arguments: object) -> None:
                """Keep quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def metadata() -> Iterator[MetadataServer]:
    server = MetadataServer()
    yield server
    server.close()


def look(notices: Notices) -> Notice | None:
    return asyncio.run(notices.look())


def in_seconds(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def with_header(name: str, value: str, text: str) -> Callable[[dict[str, str]], tuple[int, str]]:
    return lambda headers: (200, text) if headers.get(name) == value else (401, "")


@pytest.mark.server
def test_aws_says_when_an_instance_ends(metadata: MetadataServer) -> None:
    token = "PUT /latest/api/token"
    metadata.answers[token] = with_header(
        "x-aws-ec2-metadata-token-ttl-seconds", "21600", "the-token"
    )
    aws = Aws(metadata.url)
    assert look(aws) is None
    told = json.dumps({"action": "terminate", "time": f"{in_seconds(120):%Y-%m-%dT%H:%M:%SZ}"})
    metadata.answers["GET /latest/meta-data/spot/instance-action"] = with_header(
        "x-aws-ec2-metadata-token", "the-token", told
    )
    notice = look(aws)
    assert notice is not None
    assert notice.evicted
    assert 110 < notice.seconds <= 120
    # A token is taken once, and anew when it is over.
    assert metadata.asked.count(token) == 1
    metadata.answers[token] = with_header(
        "x-aws-ec2-metadata-token-ttl-seconds", "21600", "another"
    )
    metadata.answers["GET /latest/meta-data/spot/instance-action"] = with_header(
        "x-aws-ec2-metadata-token", "another", told
    )
    with pytest.raises(TransientError, match="401"):
        look(aws)
    assert look(aws) is not None


@pytest.mark.server
def test_gce_says_that_a_machine_is_preempted(metadata: MetadataServer) -> None:
    path = "GET /computeMetadata/v1/instance/preempted"
    metadata.answers[path] = with_header("metadata-flavor", "Google", "FALSE")
    gce = Gce(metadata.url)
    assert look(gce) is None
    metadata.answers[path] = with_header("metadata-flavor", "Google", "TRUE")
    assert look(gce) == Notice(30.0, evicted=True)


@pytest.mark.server
@pytest.mark.parametrize(
    ("event", "machine", "seconds"),
    [
        ("Preempt", "mine", 30.0),
        ("Terminate", "mine", 300.0),
        ("Preempt", "mine", 0.0),
        ("Preempt", "another", None),
        ("Freeze", "mine", None),
    ],
)
def test_azure_schedules_events(
    metadata: MetadataServer, event: str, machine: str, seconds: float | None
) -> None:
    name = "GET /metadata/instance/compute/name?api-version=2021-02-01&format=text"
    metadata.answers[name] = with_header("metadata", "true", "mine")
    begins = format_datetime(in_seconds(seconds or 30.0), usegmt=True) if seconds != 0 else ""
    told = {
        "DocumentIncarnation": 1,
        "Events": [{"EventType": event, "Resources": [machine], "NotBefore": begins}],
    }
    path = "GET /metadata/scheduledevents?api-version=2020-07-01"
    metadata.answers[path] = with_header("metadata", "true", json.dumps(told))
    notice = look(Azure(metadata.url))
    if seconds is None:
        assert notice is None
    else:
        assert notice is not None
        assert seconds - 10 < notice.seconds <= seconds


@pytest.mark.server
@pytest.mark.parametrize("kind", [Aws, Gce, Azure])
def test_a_server_that_does_not_answer_as_documented_may_later(
    metadata: MetadataServer, kind: type[Aws | Gce | Azure]
) -> None:
    with pytest.raises(TransientError, match="404"):
        look(kind(metadata.url))
    metadata.answers = {
        path: lambda _: (200, "not what was documented")
        for path in (
            "PUT /latest/api/token",
            "GET /latest/meta-data/spot/instance-action",
            "GET /metadata/instance/compute/name?api-version=2021-02-01&format=text",
            "GET /metadata/scheduledevents?api-version=2020-07-01",
        )
    }
    with pytest.raises(TransientError, match=r"404|cannot be read"):
        look(kind(metadata.url))
    with pytest.raises(TransientError, match="does not answer"):
        look(kind("http://127.0.0.1:9"))


def test_a_file_that_appears(tmp_path: Path) -> None:
    notices = FileAppears(tmp_path / "leave")
    assert look(notices) is None
    (tmp_path / "leave").touch()
    assert look(notices) == Notice(math.inf, evicted=True)


def test_a_command_that_says_so(tmp_path: Path) -> None:
    notices = CommandEnds(["test", "-e", str(tmp_path / "leave")])
    assert look(notices) is None
    (tmp_path / "leave").touch()
    assert look(notices) == Notice(math.inf, evicted=True)
    with pytest.raises(TransientError, match="no-such-program"):
        look(CommandEnds(["no-such-program"]))


def test_a_command_that_does_not_end_is_killed(tmp_path: Path) -> None:
    script = f"echo $$ > {tmp_path / 'pid'}; exec sleep 1000"

    def begun() -> bool:
        return (tmp_path / "pid").exists() and bool((tmp_path / "pid").read_text())

    async def main() -> int:
        looking = asyncio.ensure_future(CommandEnds(["sh", "-c", script]).look())
        await asyncio.to_thread(wait_until, begun, "the command")
        looking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await looking
        return int((tmp_path / "pid").read_text())

    number = asyncio.run(main())
    assert not Path(f"/proc/{number}").exists()


def condor_ad(**attributes: int) -> str:
    return "".join(f"{name} = {value}\n" for name, value in attributes.items())


@pytest.mark.parametrize(
    ("system", "seconds"),
    [
        ({}, None),
        ({"slurm": 500}, 500),
        ({"slurm": "unknown"}, None),
        ({"ad": {"JobCurrentStartDate": -100, "AllowedExecuteDuration": 700}}, 600),
        ({"ad": {"JobCurrentStartDate": -100, "AllowedJobDuration": 900, "MaxRuntime": 300}}, 200),
        ({"ad": {"JobCurrentStartDate": -100}}, None),
        ({"job": {"shutdowntime_job": 400}}, 400),
        ({"job": {"jobstart_secs": -50, "wall_limit_secs": 150}}, 100),
        ({"job": {"wall_limit_secs": 150}}, None),
        ({"machine": {"shutdowntime": 300}, "job": {"shutdowntime_job": 400}}, 300),
        ({"machine": {"shutdowntime": "soon"}}, None),
    ],
)
def test_batch_systems_say_when_a_job_ends(
    tmp_path: Path, system: dict[str, object], seconds: int | None
) -> None:
    now = int(time.time())

    def moment(name: str, value: object) -> object:
        is_span = name in {"wall_limit_secs", "AllowedExecuteDuration"} | {
            "AllowedJobDuration",
            "MaxRuntime",
        }
        return value if is_span or not isinstance(value, int) else now + value

    environment = {"SLURM_JOB_ID": "1"}
    if "slurm" in system:
        environment["SLURM_JOB_END_TIME"] = str(moment("slurm", system["slurm"]))
    if isinstance(ad := system.get("ad"), dict):
        (tmp_path / "ad").write_text(
            'Owner = "me"\n' + condor_ad(**{k: moment(k, v) for k, v in ad.items()})
        )
        environment["_CONDOR_JOB_AD"] = str(tmp_path / "ad")
    for kind, variable in (("job", "JOBFEATURES"), ("machine", "MACHINEFEATURES")):
        if isinstance(features := system.get(kind), dict):
            (tmp_path / kind).mkdir()
            environment[variable] = str(tmp_path / kind)
            for name, value in features.items():
                (tmp_path / kind / name).write_text(f"{moment(name, value)}\n")
    notice = look(BatchSystem(environment))
    if seconds is None:
        assert notice is None
    else:
        assert notice is not None
        assert not notice.evicted
        assert seconds - 10 < notice.seconds <= seconds


def test_the_setting_names_who_is_asked() -> None:
    for value, kind in {
        "aws": Aws,
        "gce": Gce,
        "azure": Azure,
        "file:/tmp/leave": FileAppears,
        "command:is-it-time 'to go'": CommandEnds,
    }.items():
        assert [type(one) for one in configured_notices(value, "", {})] == [BatchSystem, kind]
    assert [type(one) for one in configured_notices("", "", {})] == [BatchSystem]


@pytest.mark.parametrize("value", ["file:", "file:leave", "command: ", "gcp", "aws:x", "/leave"])
def test_a_setting_that_names_nobody_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match="eviction_notice"):
        configured_notices(value, "", {})
