"""What hangs beside a tree's entries in a file: a rule for each tree and each object.

A rule has two faces, one for cuts and one for joins, made for each other: a file that is
cut into slices and joined again holds every sum once. docs/explanation/rootio.md has the
table.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from evstream.domain.errors import RequestError
from evstream.rootio.index import DESCRIPTIONS, SourceIndex
from evstream.rootio.selection import Table


class Rule(StrEnum):
    """What becomes of a tree or an object that is not the one being cut."""

    ADD = "add"
    """Counted once: in the slice that holds the file's first entry; added in a join."""
    CONCATENATE = "concatenate"
    """In that same slice; in a join trees are put behind each other, and of objects all
    that differ are kept, as cycles of one name."""
    FIRST = "first"
    """In that same slice; a join keeps the first file's."""
    ALL = "all"
    """In every slice; a join keeps those that are equal once, and all that differ."""
    EVENTS = "events"
    """A tree with events of its own: in no slice of another; put behind each other."""
    NONE = "none"
    """Left behind."""


COUNTED_ONCE = frozenset({Rule.ADD, Rule.CONCATENATE, Rule.FIRST})
SUMMED = frozenset({Rule.ADD, Rule.CONCATENATE, Rule.EVENTS})
"""Of trees under these, a join has as many entries as its inputs together."""


@dataclass(frozen=True, slots=True)
class Known:
    """A metadata tree that is recognised by its name and by one of its branches.

    Attributes
    ----------
    tree, branch : str
        Globs; "" for any branch.
    rule : Rule
    once : tuple of str
        Globs of branches within that are counted once, whatever the rule says.
    """

    tree: str
    branch: str
    rule: Rule
    once: tuple[str, ...] = ()


KNOWN = (
    # CMS: NanoAOD, MiniAOD, AOD.
    Known("Runs", "", Rule.CONCATENATE),
    Known("LuminosityBlocks", "", Rule.CONCATENATE),
    Known("MetaData", "ProcessHistory*", Rule.ALL),
    Known("MetaData", "FileFormatVersion", Rule.ALL),
    Known("ParameterSets", "", Rule.ALL),
    Known("Parentage", "", Rule.ALL),
    # ATLAS: AOD, DAOD.
    Known(
        "MetaData", "EventFormat*", Rule.ALL,
        ("*CutBookkeepers*", "*EventStreamInfo*", "*LumiBlocks*", "*EventBookkeeper*"),
    ),
    Known("MetaDataHdr*", "", Rule.ALL),
    Known("CollectionMetadata", "", Rule.ALL),
    Known("##*", "", Rule.ALL),
    Known("sumWeights", "", Rule.CONCATENATE),
    # podio: EDM4hep.
    Known("podio_metadata", "", Rule.ALL),
    Known("metadata", "CollectionIDs", Rule.ALL),
    Known("col_metadata", "colMD", Rule.ALL),
    Known("run_metadata", "runMD", Rule.ALL),
)  # fmt: skip

# What hadd adds up: histograms, graphs, parameters and efficiencies.
_ADDED = re.compile(
    r"TH[123][CSIFDL]|TH1K|TH2Poly|TProfile([23]D|2Poly)?|THnSparse.*|THnT<.*|THStack"
    r"|TList|THashList|TObjArray|TParameter<.*|TEfficiency|TGraph(2D)?(Asymm|Bent|Multi)?(Errors)?|TStatistic"
)
# They hold entry numbers of the file as it was.
_ENTRY_NUMBERS = frozenset({"TEventList", "TEntryList", "TEntryListBlock", "TTreeIndex"})

# ATLAS's persistency: its tokens name containers and entries within them.
_POOL_TREES = ("##Params", "##Links", "##Shapes", "POOLContainer*", "MetaDataHdr*")
NOT_FOR_ATHENA = "evstream_not_for_athena"
NOT_FOR_ATHENA_TITLE = (
    "POOL's tokens name entries as they were numbered before this file was cut or joined: "
    "read it with ROOT, uproot or xAOD's own reader, not with Athena"
)


@dataclass(frozen=True, slots=True)
class Rules:
    """Which rule holds for what: patterns as given, then the defaults.

    Attributes
    ----------
    given : tuple of (glob, Rule)
        Of paths within the file; the first that matches decides. With "TREE/BRANCH", and
        a rule that counts once, branches of a tree that is in every slice are in the
        first one alone; with `Rule.NONE` in none.
    """

    given: tuple[tuple[str, Rule], ...] = ()

    @classmethod
    def of(cls, rules: Mapping[str, str]) -> Self:
        """Make rules of a mapping of globs to rules' names, the first ones first.

        Raises
        ------
        RequestError
            A name that is no rule.
        """
        try:
            return cls(tuple((glob, Rule(rule)) for glob, rule in rules.items()))
        except ValueError as error:
            raise RequestError(
                f"{error}", hint=f"the rules are {', '.join(Rule)}", rules=dict(rules)
            ) from error

    def of_tree(self, tree: Table) -> Rule:
        """Return the rule of a tree."""
        given = self._given(tree.path)
        if given is not None:
            return given
        known = _known(tree)
        return Rule.EVENTS if known is None else known.rule

    def leaves(self, path: str) -> bool:
        """Whether a rule that was given leaves a tree behind, even one that cannot be read."""
        return self._given(path) == Rule.NONE

    def of_object(self, path: str, class_name: str) -> Rule:
        """Return the rule of an object that is no tree."""
        given = self._given(path)
        if given is not None:
            return given
        if _ADDED.fullmatch(class_name):
            return Rule.ADD
        if class_name in DESCRIPTIONS:
            return Rule.ALL
        if class_name in _ENTRY_NUMBERS:
            return Rule.NONE
        return Rule.CONCATENATE

    def branches(self, tree: Table, *, leads: bool) -> list[str] | None:
        """List the branches of a metadata tree that a slice holds; None for all.

        Parameters
        ----------
        leads : bool
            Whether the slice holds what is counted once.
        """
        known = _known(tree)
        once = () if known is None else known.once
        names = []
        for branch in tree.branches:
            if not branch.is_top_level:
                continue
            # "*" means trees, and not their branches one by one.
            rule = self._given(f"{tree.path}/{branch.name}", tree.path.count("/") + 1)
            if rule is None and any(fnmatch.fnmatchcase(branch.name, glob) for glob in once):
                rule = Rule.ADD
            if rule == Rule.NONE or (rule in COUNTED_ONCE and not leads):
                continue
            names.append(branch.name)
        whole = sum(branch.is_top_level for branch in tree.branches)
        return None if len(names) == whole else names

    def joined_branches(self, tree: Table) -> list[str] | None:
        """List the branches of a tree that a join holds; None for all."""
        return None if self.of_tree(tree) == Rule.EVENTS else self.branches(tree, leads=True)

    def void(self, tree: Table) -> list[str]:
        """List the given rules that name branches of a tree with events, in vain."""
        if self.of_tree(tree) != Rule.EVENTS:
            return []
        names = {f"{tree.path}/{b.name}" for b in tree.branches if b.is_top_level}
        return [f"{glob}={rule}" for glob, rule in self.given if glob in names]

    def summed(self, index: SourceIndex) -> dict[str, int]:
        """Return the entries of the trees that a join puts behind each other, by path."""
        trees = index.trees.items()
        return {path: tree.entries for path, tree in trees if self.of_tree(tree) in SUMMED}

    def canonical(self) -> str:
        """Return a text that is equal for equal rules, "" for the defaults."""
        return "\n".join(f"{glob}={rule}" for glob, rule in self.given)

    def _given(self, path: str, slashes: int = 0) -> Rule | None:
        for glob, rule in self.given:
            if glob.count("/") >= slashes and fnmatch.fnmatchcase(path, glob):
                return rule
        return None


def _known(tree: Table) -> Known | None:
    name = tree.path.rpartition("/")[2]
    for known in KNOWN:
        if fnmatch.fnmatchcase(name, known.tree) and (
            not known.branch
            or any(
                fnmatch.fnmatchcase(b.name, known.branch) for b in tree.branches if b.is_top_level
            )
        ):
            return known
    return None


def is_pool(indices: Sequence[SourceIndex]) -> bool:
    """Whether one of some files is of ATLAS's POOL, so that tokens may name entries."""
    paths = {path for index in indices for path in index.trees}
    if any(fnmatch.fnmatchcase(path, glob) for path in paths for glob in _POOL_TREES):
        return True
    if any(info.path == NOT_FOR_ATHENA for index in indices for info in index.objects):
        return True
    return any(
        branch.name == "index_ref" or branch.name.startswith("DataHeader")
        for index in indices
        if "CollectionTree" in index.trees
        for branch in index.trees["CollectionTree"].branches
    )
