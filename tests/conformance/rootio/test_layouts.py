"""Joins refuse what a reader would take for something else, and nothing else."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from evstream import rootio
from evstream.domain.errors import DataError
from tests.conformance.rootio.zoo import TIMEOUT_S

MACRO = """
#include "TFile.h"
#include "TTree.h"
#include "TObject.h"
class V : public TObject {{ public: {members} ClassDefOverride(V, 1); }};
class H {{ public: int n = 0; V v; ClassDef(H, 1); }};
#ifdef __ROOTCLING__
#pragma link C++ class V+;
#pragma link C++ class H+;
#endif
void {name}() {{
   TFile file("{name}.root", "recreate");
   auto *held = new H;
   TTree tree("t", "t");
   tree.Branch("q", &held, 32000, 0);
   for (int i = 0; i < 5; ++i) {{
      held->n = i;
      held->v.a = i;
      held->v.b = 1000 + i;
      tree.Fill();
   }}
   file.Write();
}}
"""


@pytest.mark.slow
def test_two_layouts_of_one_version_are_refused(root_bin: Path, tmp_path: Path) -> None:
    for name, members in (("one", "int a = 0; int b = 0;"), ("two", "int b = 0; int a = 0;")):
        (tmp_path / f"{name}.C").write_text(MACRO.format(name=name, members=members))
        subprocess.run(
            [root_bin / "root.exe", "-b", "-q", "-l", f"{name}.C+"],
            cwd=tmp_path,
            check=True,
            capture_output=True,
            timeout=TIMEOUT_S,
        )
    one, two = tmp_path / "one.root", tmp_path / "two.root"
    with pytest.raises(DataError, match=r"class V of version 1 has other members .*TObject, b, a"):
        rootio.join([one, two], tmp_path / "joined.root")
    assert not (tmp_path / "joined.root").exists()
    assert rootio.join([one, one], tmp_path / "joined.root").entries == {"t": 10}
