"""What all tests share: real event files, ROOT, seeds that are printed, and honest skips."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from bench.machine import describe_commit
from tests.postgresql import Server, server

SEED_VARIABLE = "EVSTREAM_TEST_SEED"
_SEED = pytest.StashKey[int]()
_JUDGED = Path(__file__).parents[1] / "build" / "conformance-rootio.json"
_COMPARING = Path(__file__).parent / "conformance"

# What a failure needs to be replayed is printed with it: hypothesis gives its blob.
# Limits of time are left to the tests that measure time: machines are shared.
_COMMON = {"print_blob": True, "deadline": None}
hypothesis.settings.register_profile("default", max_examples=50, **_COMMON)
# The same change gets the same verdict; searching is what the other profiles are for.
hypothesis.settings.register_profile("ci", max_examples=100, derandomize=True, **_COMMON)
hypothesis.settings.register_profile("thorough", max_examples=2000, **_COMMON)
hypothesis.settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default")
)

_COMPILER_MISSING = "ROOT needs a C++ compiler's headers (as root: apt-get install g++)"


def pytest_configure(config: pytest.Config) -> None:
    """Keep ROOT out where it cannot work: without C++ headers it computes wrong."""
    if shutil.which("c++") is None and "ROOT" not in sys.modules:
        # Imports raise ModuleNotFoundError then, which `pytest.importorskip` understands.
        sys.modules["ROOT"] = None  # type: ignore[assignment]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put modules that take long first, and skip what this user may not do.

    A worker that has nothing left takes over what another one has not begun. If long tests came
    last, one worker would have them, and the others nothing to take over.
    """
    ranks: dict[Path, int] = {}
    for item in items:
        marked = ("slow", "server")
        rank = next((i for i, name in enumerate(marked) if item.get_closest_marker(name)), 2)
        ranks[item.path] = min(rank, ranks.get(item.path, rank))
    items.sort(key=lambda item: ranks[item.path])
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root_user"):
            item.add_marker(pytest.mark.skip(reason="needs the rights of root"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Print the seed of a random test that failed, with the command that replays it."""
    report = yield
    if report.failed and (seed := item.stash.get(_SEED, None)) is not None:
        line = f"{SEED_VARIABLE}={seed} make test PYTEST_ARGS='{item.nodeid}'"
        report.sections.append(("Replay with", line))
    return report


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    """Print what tests have to tell beside that they passed: counts, above all.

    A test tells a line by ``record_property("told", line)``, and what it compared with
    ROOT by a property ``judged``. Only tests that passed count. The sums of a run of all
    such tests are kept in build/, where `make bench NAME=rootio` shows them.
    """
    passed = terminalreporter.stats.get("passed", ())
    properties = [pair for report in passed for pair in report.user_properties]
    equal, unread = _sums([value for name, value in properties if name == "judged"])
    lines = [str(value) for name, value in properties if name == "told"]
    lines += [f"{name}: {value}" for name, value in equal.items()]
    lines += [f"{kind}: {', '.join(names[:5])}, ..." for kind, names in unread.items()]
    if lines:
        terminalreporter.section("counts")
    for line in dict.fromkeys(lines):
        terminalreporter.line(line)
    ended = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
    if equal and ended and _is_whole(config):
        counted = {
            "commit": describe_commit(),
            "tests": _outcomes(terminalreporter),
            "equal": equal,
            "cannot be read": unread,
        }
        _JUDGED.parent.mkdir(exist_ok=True)
        _JUDGED.write_text(json.dumps(counted, indent=2) + "\n")


def _is_whole(config: pytest.Config) -> bool:
    """Tell whether all tests that compare with ROOT were to run, and not some of them."""
    chosen = config.option.keyword or config.option.markexpr or config.option.deselect
    # Without words, pytest's arguments are its `testpaths`.
    asked = [Path(config.invocation_params.dir, word) for word in config.args]
    return not chosen and any(path in (_COMPARING, *_COMPARING.parents) for path in asked)


def _outcomes(terminalreporter: pytest.TerminalReporter) -> dict[str, int | list[str]]:
    """Count the tests that compare with ROOT, and name those that passed not."""
    inside = _COMPARING.relative_to(terminalreporter.config.rootpath).as_posix()
    names = {
        kind: sorted({r.nodeid for r in reports if r.nodeid.startswith(inside)})
        for kind, reports in terminalreporter.stats.items()
        if kind in ("passed", "failed", "error", "skipped")
    }
    return {
        kind: len(known) if kind == "passed" else known for kind, known in names.items() if known
    }


def _sums(
    judged: list[dict[str, dict[str, Any]]],
) -> tuple[dict[str, int], dict[str, list[str]]]:
    """Add up what tests compared, and count what they name.

    Returns
    -------
    equal : mapping of what to how many
    unread : mapping of who cannot read to names, all of them
    """
    sums: Counter[str] = Counter()
    names: dict[str, set[str]] = defaultdict(set)
    for one in judged:
        sums.update(one["sums"])
        for kind, known in one["names"].items():
            names[kind].update(known)
    unread = {kind: sorted(known) for kind, known in names.items() if "cannot" in kind and known}
    counts = {kind: len(known) for kind, known in names.items() if kind not in unread and known}
    return {**counts, **sums}, unread


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Seed of a random test: another one each time, printed if the test fails.

    EVSTREAM_TEST_SEED=N replays; with CI set it follows from the test's name.
    """
    given = os.environ.get(SEED_VARIABLE)
    if given is not None:
        value = int(given)
    elif os.environ.get("CI"):
        value = zlib.crc32(request.node.nodeid.encode())
    else:
        value = random.SystemRandom().getrandbits(32)
    request.node.stash[_SEED] = value
    return value


@pytest.fixture
def rng(seed: int) -> random.Random:
    """Random numbers from the test's seed."""
    return random.Random(seed)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real event files; without it, tests that need them are skipped."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("EVSTREAM_SHARED_DATA", default))
    if not folder.is_dir():
        pytest.skip("no folder of real event files: set EVSTREAM_SHARED_DATA")
    return folder


@pytest.fixture(scope="session")
def root() -> object:
    """ROOT itself, as the judge of files; tests that need it skip where it cannot be had."""
    if shutil.which("c++") is None:
        pytest.skip(_COMPILER_MISSING)
    module = pytest.importorskip("ROOT", reason="no wheel of ROOT for this Python")
    module.gROOT.SetBatch(True)
    return module


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """Start a PostgreSQL that tests share, each in schemas or databases of its own.

    It keeps running: a test that stops or kills a server starts its own.
    """
    with server() as started:
        yield started
