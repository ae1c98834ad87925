"""ROOT, files made by it, and the comparison of products with their sources."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conformance.rootio.zoo import HERE, TIMEOUT_S, Zoo, build_ntuple_zoo, build_zoo

# ROOT 6.40 crashes when it reads this tree's own source into objects without
# dictionaries, so its stored bytes are compared, and uproot reads what it can.
BYTES_ONLY = {("exot_15.root", "CollectionTree")}


@pytest.fixture(scope="session")
def root_bin() -> Path:
    """Return the directory of ROOT's programs, found without importing ROOT."""
    spec = importlib.util.find_spec("ROOT")
    if spec is None or spec.origin is None:
        pytest.skip("ROOT is not installed")
    path = Path(spec.origin).parent / "bin"
    if not (path / "root.exe").exists():
        pytest.skip("this installation of ROOT has no root.exe")
    return path


@dataclass(frozen=True)
class Pair:
    """Entries of a source's tree and where a product has them.

    ``source_first`` is the first of a range, or "@FILE" for those listed in a file.
    """

    source: Path
    tree: str
    source_first: int | str
    product: Path
    product_first: int
    entries: int

    @property
    def bytes_only(self) -> bool:
        """Whether ROOT cannot read the source's own tree into objects."""
        return (self.source.name, self.tree) in BYTES_ONLY

    def line(self) -> str:
        """Spell it for compare_trees.C."""
        depth = "bytes" if self.bytes_only else "objects"
        words = (
            self.source, self.tree, self.source_first, self.product, self.tree,
            self.product_first, self.entries, depth,
        )  # fmt: skip
        return "\t".join(map(str, words))


Compare = Callable[..., list[tuple[int, int, int, int]]]


class Judged:
    """What one test compared with ROOT and uproot, in the form that tests/conftest.py sums up."""

    def __init__(self) -> None:
        self.sums: Counter[str] = Counter()
        self.names: dict[str, set[str]] = defaultdict(set)

    def clear(self) -> None:
        """Forget all."""
        self.sums.clear()
        self.names.clear()

    def add(self, pair: Pair, verdict: Sequence[int]) -> None:
        """Count one comparison by ROOT that came out equal."""
        stored, read, irreproducible, entries = verdict
        self.sums["comparisons of trees"] += 1
        self.sums["entries of trees"] += entries
        self.sums["branches as stored"] += stored
        self.sums["branches as read"] += read
        self.sums["objects that ROOT reads differently each time"] += irreproducible
        self.names["files"].add(pair.source.name)
        self.names["trees"].add(f"{pair.source.name}: {pair.tree}")
        if pair.bytes_only:
            unreadable = self.names["trees that ROOT cannot read into objects"]
            unreadable.add(f"{pair.source.name}: {pair.tree}")

    def add_ntuple(self, pair: NTuplePair, verdict: Sequence[int]) -> None:
        """Count one comparison of an RNTuple by ROOT that came out equal."""
        fields, values, entries = verdict
        self.sums["comparisons of RNTuples"] += 1
        self.sums["entries of RNTuples"] += entries
        self.sums["top-level fields"] += fields
        self.sums["values of fields"] += values
        self.names["files"].add(pair.source.name)
        self.names["RNTuples"].add(f"{pair.source.name}: {pair.ntuple}")

    def add_by_uproot(self, what: str, compared: int, unreadable: Iterable[str]) -> None:
        """Count branches or fields that uproot read alike, and name those it cannot read."""
        self.sums[f"{what} by uproot"] += compared
        self.names["branches that uproot cannot read in the source"].update(unreadable)


JUDGED = Judged()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Hand what a test compared to the session's summary; what passed was equal."""
    JUDGED.clear()
    yield
    names = {kind: sorted(known) for kind, known in JUDGED.names.items()}
    item.user_properties.append(("judged", {"sums": dict(JUDGED.sums), "names": names}))


@pytest.fixture
def equal_by_root(root_bin: Path, tmp_path: Path) -> Compare:
    """Return a function that has ROOT compare pairs and fails at the first difference.

    It returns, for each pair: branches compared as stored, branches compared as read,
    branches whose objects are irreproducible, entries.
    """

    def compare(pairs: Sequence[Pair], library: Path | None = None) -> list[tuple[int, ...]]:
        listing = tmp_path / "pairs.txt"
        listing.write_text("".join(pair.line() + "\n" for pair in pairs))
        macro = f'{HERE / "compare_trees.C"}("{listing}", "{library or ""}")'
        # Memory that nobody initialised shall at least look alike everywhere.
        environment = {**os.environ, "MALLOC_PERTURB_": "85"}
        run = subprocess.run(
            [root_bin / "root.exe", "-b", "-q", "-l", macro],
            capture_output=True, text=True, timeout=TIMEOUT_S, check=False, env=environment,
        )  # fmt: skip
        verdicts = [
            line for line in run.stdout.splitlines() if line.startswith(("EQUAL", "DIFFERENT"))
        ]
        for pair, verdict in zip(pairs, verdicts, strict=False):
            assert verdict.startswith("EQUAL"), f"{verdict}: {pair.line()}"
        assert len(verdicts) == len(pairs), run.stdout[-2000:] + run.stderr[-2000:]
        counts = [tuple(map(int, verdict.split()[1:])) for verdict in verdicts]
        for pair, count in zip(pairs, counts, strict=True):
            JUDGED.add(pair, count)
        return counts

    return compare


@dataclass(frozen=True)
class NTuplePair:
    """Entries of a source's RNTuple and the product that shall have them, from its first on.

    ``source_first`` as in `Pair`; ``fields`` are qualified names, None for all.
    """

    source: Path
    ntuple: str
    source_first: int | str
    product: Path
    entries: int
    fields: tuple[str, ...] | None = None
    product_first: int = 0

    def line(self) -> str:
        """Spell it for compare_ntuples.C."""
        fields = "*" if self.fields is None else ",".join(self.fields)
        words = (
            self.source, self.ntuple, self.source_first, self.product, self.ntuple,
            self.product_first, self.entries, fields,
        )  # fmt: skip
        return "\t".join(map(str, words))


@pytest.fixture
def equal_ntuples_by_root(root_bin: Path, tmp_path: Path) -> Compare:
    """Return a function that has ROOT compare pairs and fails at the first difference.

    It returns, for each pair: top-level fields, values compared, entries.
    """

    def compare(
        pairs: Sequence[NTuplePair], library: Path | None = None
    ) -> list[tuple[int, int, int]]:
        verdicts = compare_ntuples(root_bin, tmp_path, pairs, library)
        for pair, verdict in zip(pairs, verdicts, strict=True):
            assert verdict.startswith("EQUAL"), f"{verdict}: {pair.line()}"
        counts = [tuple(map(int, verdict.split()[1:])) for verdict in verdicts]
        assert [c[2] for c in counts] == [pair.entries for pair in pairs]
        for pair, count in zip(pairs, counts, strict=True):
            JUDGED.add_ntuple(pair, count)
        return counts

    return compare


def compare_ntuples(
    root_bin: Path, where: Path, pairs: Sequence[NTuplePair], library: Path | None
) -> list[str]:
    """Return ROOT's verdict on each pair: EQUAL and counts, or DIFFERENT and why."""
    listing = where / "ntuple_pairs.txt"
    listing.write_text("".join(pair.line() + "\n" for pair in pairs))
    macro = f'{HERE / "compare_ntuples.C"}("{listing}", "{library or ""}")'
    run = subprocess.run(
        [root_bin / "root.exe", "-b", "-q", "-l", macro],
        capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    verdicts = [line for line in run.stdout.splitlines() if line.startswith(("EQUAL", "DIFFERENT"))]
    assert len(verdicts) == len(pairs), run.stdout[-2000:] + run.stderr[-2000:]
    return verdicts


@pytest.fixture(scope="session")
def zoo(root_bin: Path) -> Zoo:
    """Files with every kind of branch; skip where no compiler makes dictionaries."""
    return build_zoo(root_bin)


@pytest.fixture(scope="session")
def ntuple_zoo(root_bin: Path) -> Zoo:
    """RNTuples of every kind; skip where no compiler makes dictionaries."""
    return build_ntuple_zoo(root_bin)
