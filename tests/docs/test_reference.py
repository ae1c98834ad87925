"""What the reference says is what the code has: nothing is missing, nothing is gone."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import msgspec
import pytest
from cyclopts import App

import evstream
from evstream.cli.commands import app
from evstream.domain import ledger
from evstream.domain.dataset import Fingerprint
from evstream.domain.errors import EvstreamError, RequestError
from evstream.domain.granularity import Granularity
from evstream.domain.outputs import OutputRecord
from evstream.domain.payload import Payload
from evstream.domain.states import Answer, RangeState, TaskState
from evstream.domain.streams import Merge, OutputStream
from evstream.domain.task import Limits, TaskSpec
from evstream.settings import Settings, resolve
from evstream.web import make_app
from evstream.web.operations import operations_of
from evstream.wire import (
    access_messages,
    delivery_messages,
    edge_messages,
    event_messages,
    messages,
    product_messages,
    queries,
    whiteboard_messages,
    work_messages,
)
from evstream.wire.problems import status_of
from evstream.wire.signed_urls import DerivedKeys, UrlSigner
from tests.docs.pages import REFERENCE, REPOSITORY, Block, all_blocks, section, table

COMMANDS = REFERENCE / "commands.md"
API = (REFERENCE / "api.md").read_text(encoding="utf-8")
ERRORS = (REFERENCE / "errors.md").read_text(encoding="utf-8")


def commands(of: App = app, path: tuple[str, ...] = ()) -> Iterator[tuple[str, App]]:
    """Yield every command with its full name."""
    for name in of:
        if name.startswith("-"):
            continue
        sub = of[name]
        yield from commands(sub, (*path, name))
        if sub.default_command is not None:
            yield " ".join((*path, name)), sub


ALL_COMMANDS = dict(commands())


def flags_of(command: App) -> dict[str, Any]:
    """Return the flags of a command, and its positional arguments in capitals."""
    found = {}
    for argument in command.assemble_argument_collection():
        name = argument.names[0]
        if name == "*":
            continue
        found[name.strip("-").upper() if argument.index is not None else name] = argument
    return found


@pytest.mark.parametrize("name", ALL_COMMANDS)
def test_a_command_is_documented_with_each_flag(name: str) -> None:
    text = section(COMMANDS, f"evstream {name}")
    named = set(re.findall(r"`(--[a-z-]+|[A-Z]{3,})`", text))
    real = flags_of(ALL_COMMANDS[name])
    assert set(real) <= named, f"not documented: {set(real) - named}"
    in_table = set(re.findall(r"^\| `(--[a-z-]+)`", text, re.MULTILINE))
    assert in_table <= set(real), f"documented, but gone: {in_table - set(real)}"
    if "| flag " in text:
        for flag, row in table(text, "flag").items():
            _check_default(real[flag], row.get("default", ""))


def _check_default(argument: Any, documented: str) -> None:
    info = argument.field_info
    if argument.required:
        assert documented == "required", argument.names
    elif info.default not in (info.empty, None, "", (), False):
        default = info.default
        shown = _plain(default) if isinstance(default, float) else str(default)
        assert documented.split(" ", 1)[0] == shown, argument.names


def test_no_command_is_documented_that_is_gone() -> None:
    titles = re.findall(r"^## evstream (.+)$", COMMANDS.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(titles) == sorted(ALL_COMMANDS)


@pytest.mark.parametrize("name", ALL_COMMANDS)
def test_help_ends_in_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    app([*name.split(), "--help"], exit_on_error=False, result_action="return_value")
    printed = capsys.readouterr().out
    assert "For example:" in printed
    assert f"evstream {name}" in printed.partition("For example:")[2].partition("╭")[0]


_NO_NUMBERS = (
    "accel_location",
    "archive_dir",
    "cache",
    "edge_name",
    "edge_url",
    "eviction_notice",
    "head",
    "site",
    "makers",
    "metadata_url",
    "node_cache",
    "data_dir",
    "catalogue",
    "output_store",
    "output_store_fallback",
    "outputs_dir",
    "pilot_steps",
    "queue_shares",
    "threads",
    "url",
    "token",
    "token_file",
    "ca_file",
    "listen",
    "tls_cert_file",
    "tls_key_file",
    "source_roots",
    "source_networks",
    "origin_cert_file",
    "origin_tokens",
    "token_issuers",
    "token_audience",
    "token_roles",
    "access_log",
)


def test_each_setting_is_documented() -> None:
    rows = table((REFERENCE / "settings.md").read_text(encoding="utf-8"), "setting")
    fields = {item.name: item for item in dataclasses.fields(Settings)}
    assert list(rows) == list(fields)
    flags = {flag for command in ALL_COMMANDS.values() for flag in flags_of(command)}
    for name, row in rows.items():
        low, high = fields[name].metadata["low"], fields[name].metadata["high"]
        bounds = "" if low is None else f"{_plain(low)} to {_plain(high)}"
        assert row["bounds"] == bounds, name
        if name not in _NO_NUMBERS:
            assert row["default"] == _plain(fields[name].default), name
        assert not row["flag"] or row["flag"] in flags, name
        if name.endswith(("_s", "_s_max")):
            assert row["unit"] == "seconds", name
        if name.endswith("_bytes_max"):
            assert row["unit"] == "bytes", name


def _plain(number: float | str) -> str:
    if isinstance(number, str):
        return number
    return str(int(number)) if number == int(number) else str(number)


def test_each_limit_is_the_codes() -> None:
    rows = table((REFERENCE / "settings.md").read_text(encoding="utf-8"), "limit")
    from evstream.adapters.catalogue.owner import OPERATIONS_WAITING_MAX
    from evstream.adapters.catalogue.reader import READS_WAITING_MAX
    from evstream.domain.splitting import EVENTS_PER_RANGE_MAX
    from evstream.domain.whiteboard import VALUE_BYTES_MAX
    from evstream.edge.products import DESCRIPTORS_BYTES_MAX, DESCRIPTORS_MAX, PREPARED_MAX
    from evstream.edge.sources import OPEN_FILES_MAX
    from evstream.web.content_routes import DESCRIPTOR_BYTES_MAX
    from evstream.web.replies import BODY_BYTES_MAX
    from evstream.web.work_routes import LEASE_ID_MAX

    documented = [int(row["value"].split()[0].strip(";")) for row in rows.values()]
    assert documented == [
        BODY_BYTES_MAX,
        messages.FILES_MAX,
        EVENTS_PER_RANGE_MAX,
        work_messages.CLAIM_UNITS_MAX,
        work_messages.REPORTS_MAX,
        work_messages.INLINE_BYTES_MAX,
        int(work_messages.LEASE_S_MAX),
        LEASE_ID_MAX,
        DESCRIPTORS_MAX,
        DESCRIPTOR_BYTES_MAX,
        DESCRIPTORS_BYTES_MAX,
        PREPARED_MAX,
        OPEN_FILES_MAX,
        OPERATIONS_WAITING_MAX,
        READS_WAITING_MAX,
        product_messages.PRODUCTS_MAX,
        product_messages.SEARCHES_MAX,
        product_messages.READY_FILES_MAX,
        VALUE_BYTES_MAX,
        whiteboard_messages.PARTS_MAX,
        whiteboard_messages.INTERVALS_MAX,
        whiteboard_messages.NOTES_MAX,
    ]


@pytest.mark.parametrize("block", all_blocks("toml"), ids=str)
def test_examples_of_configuration_files_are_read(block: Block, tmp_path: Path) -> None:
    if block.file_name:
        # Not ours alone to read: where it is saved and used, it is tested.
        pytest.skip(f"{block.file_name} is no configuration file")
    path = tmp_path / "config.toml"
    path.write_text(block.text)
    origins = resolve({}, {"EVSTREAM_CONFIG": str(path)}).origins
    assert str(path) in origins.values()


def test_each_route_is_documented() -> None:
    # Routes are closures: making them asks nothing of the services behind them.
    nothing: Any = Mock(redirects=False)
    app = make_app(nothing, nothing, UrlSigner(DerivedKeys(b"x" * 32)), nothing)
    real = {
        f"{one.method} {re.sub(r':path}', '}', one.path)}": one.summary
        for one in operations_of(app.routes)
    }
    headings = set(re.findall(r"^### `([A-Z]+ /[^`]*)`$", API, re.MULTILINE))
    overview = table(section(REFERENCE / "api.md", "Overview"), "route")
    assert headings == set(real)
    assert {route: row["does"] for route, row in overview.items()} == real


MESSAGES = [
    kind
    for module in (
        messages,
        product_messages,
        event_messages,
        whiteboard_messages,
        access_messages,
        delivery_messages,
        edge_messages,
        work_messages,
        queries,
    )
    for kind in vars(module).values()
    if isinstance(kind, type)
    and issubclass(kind, msgspec.Struct)
    and kind.__module__ == module.__name__
]
PARTS = [ledger.Progress, ledger.RunningUnit, ledger.Success, ledger.Failure, OutputRecord]


@pytest.mark.parametrize("kind", [*MESSAGES, *PARTS, Fingerprint])
def test_each_field_of_a_message_is_on_the_page(kind: type) -> None:
    struct = issubclass(kind, msgspec.Struct)
    fields = msgspec.structs.fields(kind) if struct else dataclasses.fields(kind)
    # A problem is described with the errors.
    text = ERRORS if kind is messages.Problem else API
    assert [f.name for f in fields if not re.search(rf'[`"]{f.name}[`"]', text)] == []


def test_answers_and_states_are_documented() -> None:
    assert set(table(section(REFERENCE / "api.md", "`POST /v1/reports`"), "answer")) == {
        answer.value for answer in Answer
    }
    states = REFERENCE / "range-states.md"
    ranges = table(section(states, "Event ranges"), "number")
    assert {int(number): row["state"] for number, row in ranges.items()} == {
        state.value: state.name.lower() for state in RangeState
    }
    assert set(table(section(states, "Tasks"), "state")) == {state.value for state in TaskState}


def every_error() -> list[type[EvstreamError]]:
    """Return the classes of the tree that have a code of their own, wherever defined."""
    for module in pkgutil.walk_packages(evstream.__path__, "evstream."):
        if "__main__" not in module.name and ".testing" not in module.name:
            importlib.import_module(module.name)
    found, pending = [], [EvstreamError]
    while pending:
        kind = pending.pop()
        pending += kind.__subclasses__()
        if "code" in vars(kind) and kind.__module__.startswith("evstream."):
            found.append(kind)
    return found


def test_each_error_is_documented() -> None:
    rows = table(ERRORS, "class")
    kinds = {kind.__name__: kind for kind in every_error()}
    assert set(rows) == set(kinds)
    for name, kind in kinds.items():
        assert rows[name]["code"] == kind.code, name
        assert int(rows[name]["HTTP"]) == status_of(kind("x")), name
        assert int(rows[name]["exit"]) == (2 if issubclass(kind, RequestError) else 1), name
    codes = [kind.code for kind in kinds.values()]
    assert len(set(codes)) == len(codes)


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    drawn = re.findall(r"^([│├└─ ]*)(\w+Error)\b", ERRORS, re.MULTILINE)
    above: list[str] = []
    for indent, name in drawn:
        depth = len(indent) // 4
        kind = next(kind for kind in every_error() if kind.__name__ == name)
        del above[depth:]
        assert not above or kind.__base__.__name__ == above[-1], name
        above.append(name)
    assert {name for _, name in drawn} == {kind.__name__ for kind in every_error()}


def test_the_glossary_is_in_order_and_has_the_words_of_the_field() -> None:
    rows = list(table((REFERENCE / "glossary.md").read_text(encoding="utf-8"), "word"))
    words = [row.replace("**", "").split(",")[0] for row in rows]
    assert words == sorted(words, key=str.lower)
    wanted = "dataset DID file LFN GUID replica PFN RSE chunk task job lease attempt product recipe"
    wanted += " edge head pilot receipt unit entry event ledger payload output merge worker"
    assert not [word for word in wanted.split() if not any(word in w.split() for w in words)]
    assert {"event range", "delivery plan"} <= set(words)


def test_each_decision_is_listed() -> None:
    folder = REPOSITORY / "docs" / "adr"
    listed = (folder / "README.md").read_text(encoding="utf-8")
    for page in folder.glob("[0-9]*.md"):
        assert page.name in listed or "-rootio-" in page.name, page.name
        text = page.read_text(encoding="utf-8")
        assert re.search(r"^#+ .*[Rr]eject", text, re.MULTILINE), f"{page.name}: what was rejected?"


def test_task_fields_are_those_of_the_request() -> None:
    fields = _documented(messages.NewTask, "`POST /v1/tasks`")
    # What came of the granularity stands beside it, and what makes a task a request.
    others = {"events_per_range", "preparation"}
    assert {f.name for f in dataclasses.fields(TaskSpec)} == fields | others
    for kind, heading in (
        (Payload, "Payload"),
        (Granularity, "Granularity"),
        (OutputStream, "Output stream"),
        (Merge, "Merge rule"),
        (Limits, "Limits"),
    ):
        _documented(kind, heading)


def _documented(kind: type[msgspec.Struct], heading: str) -> set[str]:
    """Check the table under a heading of the API's page; return its fields."""
    rows = table(section(REFERENCE / "api.md", heading), "field")
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    assert list(rows) == list(fields)
    for name, row in rows.items():
        if isinstance(fields[name].default, int | float) and not isinstance(
            fields[name].default, bool
        ):
            assert row["default"] == _plain(fields[name].default), name
    return set(fields)
