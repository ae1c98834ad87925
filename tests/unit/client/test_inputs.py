"""What people type as input becomes files."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any

import pytest

from evstream.client.inputs import absolute_payload, expand_inputs, tree_of_inputs
from evstream.domain.errors import AccessError, NotFoundError, RequestError
from evstream.domain.payload import Payload


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, with three files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    for name in ("b.root", "a.root", "sub/c.root", "sub/notes.txt"):
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def _names(*inputs: str) -> list[str]:
    return [Path(file.pfn).name for file in expand_inputs(list(inputs))]


def test_files_globs_and_folders_come_once_in_order(folder: Path) -> None:
    assert _names("b.root", "*.root", str(folder / "a.root")) == ["a.root", "b.root"]
    assert _names("sub") == ["c.root"]
    assert _names(".") == ["a.root", "b.root", "c.root"]
    assert all(Path(file.pfn).is_absolute() for file in expand_inputs(["a.root"]))


def test_urls_are_taken_as_they_are() -> None:
    url = "root://host.example//store/a.root"
    assert [file.pfn for file in expand_inputs([url])] == [url]


@pytest.mark.parametrize("text", ["missing.root", "*.nothing", "empty"])
def test_what_matches_nothing_is_told(folder: Path, text: str) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(NotFoundError):
        expand_inputs([text])


def test_the_output_folder_is_no_input(folder: Path) -> None:
    with pytest.raises(NotFoundError, match="it is the output folder: give another --output"):
        expand_inputs(["."], besides=folder)


FILESETS: list[tuple[Any, str]] = [
    ({"ds": {"files": {"a.root": {"object_path": "Events", "steps": [[0, 5]]}}}}, "Events"),
    ({"ds": {"files": {"a.root": {"object_path": "Events", "steps": None}}}}, "Events"),
    ({"ds": {"files": {"a.root": "Events"}, "metadata": None}}, "Events"),
    ({"ds": {"a.root": "Events"}}, "Events"),
    ({"ds": {"files": ["a.root"]}}, ""),
    ({"ds": ["a.root"]}, ""),
]


@pytest.mark.parametrize(("content", "tree"), FILESETS)
def test_every_form_of_a_fileset(folder: Path, content: Any, tree: str) -> None:
    (folder / "f.json").write_text(json.dumps(content))
    assert _names("f.json") == ["a.root"]
    assert tree_of_inputs(["f.json"]) == tree


@pytest.mark.parametrize("content", [[], {}, 3, {"ds": 3}, {"ds": {"files": {"a": {"x": 1}}}}])
def test_what_is_no_fileset_is_told(folder: Path, content: Any) -> None:
    (folder / "f.json").write_text(json.dumps(content))
    with pytest.raises(RequestError, match="no coffea fileset"):
        expand_inputs(["f.json"])


def test_a_fileset_may_tell_checksums(folder: Path) -> None:
    about = {"object_path": "Events", "adler32": "12A4F", "md5": None}
    (folder / "sums.json").write_text(json.dumps({"d": {"files": {"a.root": about}}}))
    (file,) = expand_inputs([str(folder / "sums.json")])
    assert file.checksums == {"adler32": "12A4F"}


def test_a_fileset_of_several_datasets_asks_for_a_choice(folder: Path) -> None:
    (folder / "f.json").write_text(json.dumps({"one": ["a.root"], "two": ["b.root"]}))
    with pytest.raises(RequestError, match="several datasets"):
        expand_inputs(["f.json"])
    assert [Path(f.pfn).name for f in expand_inputs(["f.json"], "two")] == ["b.root"]


def absolute_words(command: str) -> str:
    return absolute_payload(Payload(command)).command


def test_a_function_in_a_file_is_found_from_anywhere(folder: Path) -> None:
    (folder / "analysis.py").write_text("")
    for command, expected in (
        ("analysis.py:skim", f"{folder}/analysis.py:skim"),
        ("analysis:skim", "analysis:skim"),
    ):
        payload = Payload(command, kind="callable")
        assert absolute_payload(payload).command == expected


def test_a_long_lived_process_is_found_from_anywhere(folder: Path) -> None:
    (folder / "shower.py").write_text("")
    payload = Payload("python shower.py", kind="long-lived")
    assert absolute_payload(payload).command == f"python {folder}/shower.py"


def test_files_that_a_payload_names_are_found_from_anywhere(folder: Path) -> None:
    (folder / "my skim.py").write_text("")
    words = shlex.split(absolute_words("python 'my skim.py' {input} {output} --mode fast"))
    expected = ["python", str(folder / "my skim.py"), "{input}", "{output}", "--mode", "fast"]
    assert words == expected


def test_a_payload_that_names_no_file_stays_as_it_was_written() -> None:
    payload = "sh -c 'cp {input} \"{output}\"'"
    assert absolute_words(payload) == payload


def test_results_are_left_out_of_folders_but_named_files_are_kept(folder: Path) -> None:
    out = folder / "sub"
    in_folder = [Path(file.pfn).name for file in expand_inputs(["."], besides=out)]
    assert in_folder == ["a.root", "b.root"]
    upwards = [str(folder / "sub" / "..")]
    assert len(expand_inputs(upwards, besides=out)) == 2
    named = [Path(file.pfn).name for file in expand_inputs(["a.root", "sub/c.root"], besides=out)]
    assert named == ["a.root", "c.root"]


def test_a_bare_program_is_not_looked_for_here(folder: Path) -> None:
    (folder / "cp").write_text("")
    assert absolute_words("cp {input} {output}") == "cp {input} {output}"


def test_a_path_is_normalised_and_a_link_stays(folder: Path) -> None:
    (folder / "elsewhere/deep").mkdir(parents=True)
    (folder / "elsewhere/a.root").write_bytes(b"other")
    (folder / "link.root").symlink_to(folder / "a.root")
    (folder / "away").symlink_to(folder / "elsewhere/deep")
    files = expand_inputs(["sub/../a.root", "a.root", "link.root", "away/../a.root"])
    pfns = [file.pfn for file in files]
    expected = ["a.root", "away/../a.root", "link.root"]
    assert pfns == [str(folder / name) for name in expected]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_told(folder: Path) -> None:
    (folder / "sub").chmod(0)
    try:
        with pytest.raises(AccessError, match="sub may not be read"):
            expand_inputs(["."])
    finally:
        (folder / "sub").chmod(0o700)


def test_a_choice_without_a_fileset_is_refused() -> None:
    with pytest.raises(RequestError, match="none is given"):
        expand_inputs(["a.root"], "zz")


STEPS = [[[0.5, 10]], [[-1, 10]], [["0", 10]], [[True, 10]], [[0]], 5]


@pytest.mark.parametrize("steps", STEPS)
def test_steps_are_whole_numbers_of_entries(folder: Path, steps: Any) -> None:
    about = {"object_path": "Events", "steps": steps}
    (folder / "f.json").write_text(json.dumps({"ds": {"files": {"a.root": about}}}))
    with pytest.raises(RequestError, match="no coffea fileset"):
        expand_inputs(["f.json"])


def test_folders_without_root_files_are_searched_for_other_formats(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for name in ("b.lhe.gz", "a.parquet", "notes.txt"):
        (other / name).touch()
    assert _names(str(other)) == ["a.parquet", "b.lhe.gz"]
    (other / "c.root").touch()
    assert _names(str(other)) == ["c.root"]
